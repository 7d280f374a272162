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

// systemPriorities are the classes that every cluster has (pkg/apis/scheduling).
func systemPriorities(name string) (int32, bool) {
	switch name {
	case "system-cluster-critical":
		return 2_000_000_000, true
	case "system-node-critical":
		return 2_000_001_000, true
	}
	return 0, false
}

// Prioritize writes into a new pod what its PriorityClass says, or the class that is the default, as Kubernetes' admission plugin Priority
// does: the priority and the preemptionPolicy. A pod without a class in a cluster without a default is left as it is, which means 0.
// The error tells of a class that does not exist, or of a priority that is not its class's.
func Prioritize(src Classes, pod *corev1.Pod) error {
	name := pod.Spec.PriorityClassName
	var class *schedulingv1.PriorityClass
	if name == "" {
		class = defaultClass(src)
	} else if o, ok := src.Get(object.Key{Resource: "priorityclasses", Name: name}); ok {
		class, _ = o.(*schedulingv1.PriorityClass)
	}
	value, policy := int32(0), (*corev1.PreemptionPolicy)(nil)
	system, known := systemPriorities(name)
	switch {
	case class != nil:
		value, policy, pod.Spec.PriorityClassName = class.Value, class.PreemptionPolicy, class.Name
	case known:
		value = system
	case name != "":
		return fmt.Errorf("no PriorityClass with name %s was found", name)
	}
	if p := pod.Spec.Priority; p != nil && *p != value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *p, value)
	}
	if p := pod.Spec.PreemptionPolicy; p != nil && policy != nil && *p != *policy {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *p, *policy)
	}
	if pod.Spec.PriorityClassName == "" {
		return nil
	}
	pod.Spec.Priority = &value
	if policy != nil {
		copied := *policy
		pod.Spec.PreemptionPolicy = &copied
	}
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
