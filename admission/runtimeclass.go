package admission

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/util/tolerations"

	"reconcile/object"
)

// DefaultRuntime gives a new pod what its RuntimeClass says, as Kubernetes' admission plugin RuntimeClass does: the overhead, the node selector and the
// tolerations. It changes p, and nothing that p may share; the error is Forbidden.
func DefaultRuntime(v View, p *corev1.Pod) error {
	refuse := func(format string, args ...any) error {
		return apierrors.NewForbidden(corev1.Resource("pods"), p.Name, fmt.Errorf(format, args...))
	}
	if p.Spec.RuntimeClassName == nil {
		if p.Spec.Overhead != nil {
			return refuse("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
		return nil
	}
	o, ok := v.Get(object.Key{Resource: "runtimeclasses", Name: *p.Spec.RuntimeClassName})
	if !ok {
		return refuse("pod rejected: RuntimeClass %q not found", *p.Spec.RuntimeClassName)
	}
	class := o.(*nodev1.RuntimeClass)
	switch over := class.Overhead; {
	case over == nil && p.Spec.Overhead != nil:
		return refuse("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	case over == nil:
	case len(p.Spec.Overhead) > 0 && !equal(p.Spec.Overhead, over.PodFixed):
		return refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	default:
		p.Spec.Overhead = over.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(class.Scheduling.NodeSelector)) { // the same pod is refused with the same words each time
		value := class.Scheduling.NodeSelector[key]
		if own, ok := p.Spec.NodeSelector[key]; ok && own != value {
			return refuse("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own)
		}
	}
	p.Spec.NodeSelector = over(maps.Clone(p.Spec.NodeSelector), class.Scheduling.NodeSelector)
	merged, err := mergeTolerations(p.Spec.Tolerations, class.Scheduling.Tolerations)
	if err == nil {
		p.Spec.Tolerations = merged
	}
	return err
}

// mergeTolerations are all of both lists but those that another one makes superfluous. The lists are not changed.
func mergeTolerations(own, more []corev1.Toleration) ([]corev1.Toleration, error) {
	var in []core.Toleration
	for _, t := range slices.Concat(own, more) {
		var c core.Toleration
		if err := corev1conversion.Convert_v1_Toleration_To_core_Toleration(&t, &c, nil); err != nil {
			return nil, err
		}
		in = append(in, c)
	}
	var out []corev1.Toleration
	for _, t := range tolerations.MergeTolerations(in, nil) {
		var c corev1.Toleration
		if err := corev1conversion.Convert_core_Toleration_To_v1_Toleration(&t, &c, nil); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}
