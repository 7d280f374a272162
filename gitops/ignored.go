package gitops

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	nodev1 "k8s.io/api/node/v1"

	"reconcile/manifests"
	"reconcile/object"
)

// ignored is the warning for what a document says and nobody here looks at yet: it is stored, and a user who is not told would rely
// on it. The empty string if there is nothing.
func ignored(m *manifests.Manifest) string {
	if k, err := object.KindOfObject(m.Object); err == nil && k.Stored().Dormant {
		return fmt.Sprintf("%s: a %s is stored, and nothing acts on it yet (%s:%d)", m.Key, k.GVK.Kind, m.Position.File, m.Position.Line)
	}
	switch o := m.Object.(type) {
	case *autoscalingv2.HorizontalPodAutoscaler:
		for _, metric := range o.Spec.Metrics {
			if metric.Type == autoscalingv2.ObjectMetricSourceType && metric.Object.DescribedObject.Kind == "Ingress" {
				return fmt.Sprintf("%s: metrics of an Ingress are not served yet, so %s is not sized by them (%s:%d)", m.Key, o.Spec.ScaleTargetRef.Name, m.Position.File, m.Position.Line)
			}
		}
	case *nodev1.RuntimeClass:
		return fmt.Sprintf("%s: its overhead and scheduling are heeded; its handler %q is not: agents have one runtime (%s:%d)", m.Key, o.Handler, m.Position.File, m.Position.Line)
	}
	return ""
}
