package gitops

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

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
		return fmt.Sprintf("%s: nothing measures what pods use yet, so %s is only kept between minReplicas and maxReplicas (%s:%d)", m.Key, h.Spec.ScaleTargetRef.Name, m.Position.File, m.Position.Line)
	}
	spec, prefix := podSpecOf(m.Object)
	if spec == nil {
		return ""
	}
	var fields []string
	if a := spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			fields = append(fields, "affinity.podAffinity")
		}
		if a.PodAntiAffinity != nil {
			fields = append(fields, "affinity.podAntiAffinity")
		}
		if a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
			fields = append(fields, "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution")
		}
	}
	if len(spec.TopologySpreadConstraints) > 0 {
		fields = append(fields, "topologySpreadConstraints")
	}
	if spec.PriorityClassName != "" {
		fields = append(fields, "priorityClassName")
	}
	if len(fields) == 0 {
		return ""
	}
	verb := "is"
	if len(fields) > 1 {
		verb = "are"
	}
	at := m.Fields().Of(prefix + fields[0])
	return fmt.Sprintf("%s: %s%s %s stored, and the scheduler does not look at it yet (%s:%d)", m.Key, prefix, strings.Join(fields, ", "), verb, at.File, at.Line)
}

// podSpecOf is the pod, or the template of one, that an object holds, and the path before its fields.
func podSpecOf(o object.Object) (spec *corev1.PodSpec, prefix string) {
	switch o := o.(type) {
	case *corev1.Pod:
		return &o.Spec, "spec."
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec, "spec.template.spec."
	case *appsv1.ReplicaSet:
		return &o.Spec.Template.Spec, "spec.template.spec."
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec, "spec.template.spec."
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec, "spec.template.spec."
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return &o.Spec.Template.Spec, "spec.template.spec."
		}
	case *batchv1.Job:
		return &o.Spec.Template.Spec, "spec.template.spec."
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec, "spec.jobTemplate.spec.template.spec."
	}
	return nil, ""
}
