package admission

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// CheckBinding refuses a binding that names nothing a pod can be bound to (Invalid).
func CheckBinding(b *corev1.Binding) error {
	var in core.Binding
	if err := internal.Convert(b, &in, nil); err != nil {
		return fmt.Errorf("convert a binding to its internal type: %w", err)
	}
	if faults := validation.ValidatePodBinding(&in); len(faults) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), b.Name, faults)
	}
	return nil
}

// Bind writes into a pod what a binding says, as Kubernetes does: its node, the binding's labels and annotations, and the condition. It changes p; the
// error is a Conflict.
func Bind(p *corev1.Pod, b *corev1.Binding, now time.Time) error {
	var why error
	switch {
	case p.DeletionTimestamp != nil:
		why = fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", p.Name)
	case p.Spec.NodeName != "":
		why = fmt.Errorf("pod %s is already assigned to node %q", p.Name, p.Spec.NodeName)
	case len(p.Spec.SchedulingGates) > 0:
		why = fmt.Errorf("pod %s has non-empty .spec.schedulingGates", p.Name)
	}
	if why != nil {
		return apierrors.NewConflict(corev1.Resource("pods/binding"), p.Name, why)
	}
	p.Spec.NodeName = b.Target.Name
	p.Status.NominatedNodeName = ""
	p.Labels, p.Annotations = over(p.Labels, b.Labels), over(p.Annotations, b.Annotations)
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second))}
	conditions := make([]corev1.PodCondition, 0, len(p.Status.Conditions)+1)
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodScheduled {
			conditions = append(conditions, c)
		}
	}
	p.Status.Conditions = append(conditions, scheduled)
	return nil
}
