package manifests

import (
	"context"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// TestFileOfAnotherVersion: a file may use any version that the API serves; what it sets is owned by the names of the stored one.
func TestFileOfAnotherVersion(t *testing.T) {
	const doc = `apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 5
  targetCPUUtilizationPercentage: 60
`
	l := newLoader(t)
	res, err := l.Load(context.Background(), Files{"h.yaml": []byte(doc)})
	if err != nil || len(res.Findings) > 0 || len(res.Manifests) != 1 {
		t.Fatal(res, err)
	}
	m := res.Manifests[0]
	h, ok := m.Object.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok || len(h.Spec.Metrics) != 1 || *h.Spec.Metrics[0].Resource.Target.AverageUtilization != 60 || *h.Spec.MinReplicas != 1 || h.Namespace != "default" {
		t.Fatalf("object: %+v", m.Object)
	}
	if set := string(m.Set); !strings.Contains(set, `"averageUtilization":60`) || strings.Contains(set, "minReplicas") || strings.Contains(set, "targetCPU") || !strings.Contains(set, `"autoscaling/v2"`) {
		t.Errorf("set: %s", set)
	}
	res, err = l.Load(context.Background(), Files{"h.yaml": []byte(strings.Replace(doc, "maxReplicas: 5", "maxReplicas: 0", 1))})
	if err != nil || len(res.Findings) != 1 || !strings.Contains(res.Findings[0].Message, "spec.maxReplicas") || res.Findings[0].Line != 6 {
		t.Errorf("a fault: %+v, %v", res.Findings, err)
	}
}
