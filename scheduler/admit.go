package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// Admit completes a new pod as Kubernetes' API server does before it is stored: its priority (Prioritize), and matchLabelKeys and
// mismatchLabelKeys of its affinity, which become part of the terms' selectors. What the pod shares with a template is not changed.
func Admit(src Classes, pod *corev1.Pod) error {
	if err := Prioritize(src, pod); err != nil {
		return err
	}
	if a := podAffinity(pod); a != nil {
		copied := a.DeepCopy()
		if mergeLabelKeys(copied, pod.Labels) {
			pod.Spec.Affinity = copied
		}
	}
	return nil
}

// mergeLabelKeys adds the pod's own values to the selectors of the terms that name keys, and tells whether any does.
func mergeLabelKeys(a *corev1.Affinity, own map[string]string) (changed bool) {
	term := func(t *corev1.PodAffinityTerm) {
		if t.LabelSelector == nil || len(t.MatchLabelKeys)+len(t.MismatchLabelKeys) == 0 {
			return
		}
		add := func(op metav1.LabelSelectorOperator, keys []string) {
			for _, k := range keys {
				if v, ok := own[k]; ok {
					t.LabelSelector.MatchExpressions = append(t.LabelSelector.MatchExpressions, metav1.LabelSelectorRequirement{Key: k, Operator: op, Values: []string{v}})
					changed = true
				}
			}
		}
		add(metav1.LabelSelectorOpIn, t.MatchLabelKeys)
		add(metav1.LabelSelectorOpNotIn, t.MismatchLabelKeys)
	}
	if p := a.PodAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			term(&p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			term(&p.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			term(&p.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			term(&p.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
	return changed
}

// The classes that every cluster has (pkg/apis/scheduling).
const (
	SystemClusterCritical = "system-cluster-critical"
	SystemNodeCritical    = "system-node-critical"
)

// SystemPriority is the priority of a class that every cluster has, and whether it is one.
func SystemPriority(name string) (int32, bool) {
	switch name {
	case SystemClusterCritical:
		return 2_000_000_000, true
	case SystemNodeCritical:
		return 2_000_001_000, true
	}
	return 0, false
}

// Prioritize writes into a new pod what its PriorityClass says, or the class that is the default, as Kubernetes' admission plugin Priority
// does: the priority and the preemptionPolicy. Without either they are 0 and PreemptLowerPriority. The error tells of a class that does not
// exist, or of a priority or policy that is not its class's.
func Prioritize(src Classes, pod *corev1.Pod) error {
	name := pod.Spec.PriorityClassName
	var class *schedulingv1.PriorityClass
	if name == "" {
		class = defaultClass(src)
	} else if o, ok := src.Get(object.Key{Resource: "priorityclasses", Name: name}); ok {
		class, _ = o.(*schedulingv1.PriorityClass)
	}
	value, policy := int32(0), corev1.PreemptLowerPriority
	system, known := SystemPriority(name)
	switch {
	case class != nil:
		value, pod.Spec.PriorityClassName = class.Value, class.Name
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	case known:
		value = system
	case name != "":
		return fmt.Errorf("no PriorityClass with name %s was found", name)
	}
	if p := pod.Spec.Priority; p != nil && *p != value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *p, value)
	}
	if p := pod.Spec.PreemptionPolicy; p != nil && *p != policy {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *p, policy)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// defaultClass is the class of pods that name none: of several, the one with the lowest value. nil if there is none.
func defaultClass(src Classes) (out *schedulingv1.PriorityClass) {
	for o := range src.List("priorityclasses", "") {
		if k, ok := o.(*schedulingv1.PriorityClass); ok && k.GlobalDefault && (out == nil || k.Value < out.Value) {
			out = k
		}
	}
	return out
}
