package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// CheckDefaultClass refuses a second default among the priority classes.
func CheckDefaultClass(v View, o object.Object) error {
	class, ok := o.(*schedulingv1.PriorityClass)
	if !ok || !class.GlobalDefault {
		return nil
	}
	for other := range v.List("priorityclasses", "") {
		if other.GetName() != class.Name && other.(*schedulingv1.PriorityClass).GlobalDefault {
			return apierrors.NewForbidden(schedulingv1.Resource("priorityclasses"), class.Name, fmt.Errorf("PriorityClass %s is already marked as default. Only one default can exist", other.GetName()))
		}
	}
	return nil
}

// keepPriority keeps what the pod was given when it was made where an update leaves it out.
func keepPriority(p, old *corev1.Pod) {
	if p.Spec.Priority == nil {
		p.Spec.Priority = old.Spec.Priority
	}
	if p.Spec.PreemptionPolicy == nil {
		p.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
}
