package gitops

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"reconcile/manifests"
	"reconcile/object"
)

// ignored is the warning for what a document says and nobody here looks at yet: it is stored, and a user who is not told would rely
// on it. The empty string if there is nothing.
func ignored(m *manifests.Manifest) string {
	if k, err := object.KindOfObject(m.Object); err == nil && k.Stored().Dormant {
		return fmt.Sprintf("%s: a %s is stored, and nothing acts on it yet (%s:%d)", m.Key, k.GVK.Kind, m.Position.File, m.Position.Line)
	}
	if h, ok := m.Object.(*autoscalingv2.HorizontalPodAutoscaler); ok {
		for _, metric := range h.Spec.Metrics {
			switch metric.Type {
			case autoscalingv2.PodsMetricSourceType, autoscalingv2.ObjectMetricSourceType, autoscalingv2.ExternalMetricSourceType:
				return fmt.Sprintf("%s: metrics of type %s are not served yet, so %s is not sized by them (%s:%d)", m.Key, metric.Type, h.Spec.ScaleTargetRef.Name, m.Position.File, m.Position.Line)
			}
		}
	}
	return ""
}
