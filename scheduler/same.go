package scheduler

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

func priorityOf(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

func ownerSelector(o object.Object) *metav1.LabelSelector {
	switch o := o.(type) {
	case *appsv1.ReplicaSet:
		return o.Spec.Selector
	case *appsv1.StatefulSet:
		return o.Spec.Selector
	}
	return nil
}

// sameShape tells whether two specifications ask the same of a node, besides resources and ports. Specifications made from one template share slices and
// maps, which is seen first. pinned leaves out to which one node.
func sameShape(a, b *corev1.PodSpec, pinned bool) bool {
	return a == b ||
		a.NodeName == b.NodeName && maps.Equal(a.NodeSelector, b.NodeSelector) &&
			slices.EqualFunc(a.Tolerations, b.Tolerations, sameToleration) &&
			sameAffinity(a.Affinity, b.Affinity, pinned) &&
			slices.EqualFunc(a.TopologySpreadConstraints, b.TopologySpreadConstraints, func(x, y corev1.TopologySpreadConstraint) bool {
				return equality.Semantic.DeepEqual(x, y)
			}) &&
			sameImages(a.Containers, b.Containers) && sameImages(a.InitContainers, b.InitContainers) &&
			sameVolumes(a.Volumes, b.Volumes) && never(a) == never(b) && equality.Semantic.DeepEqual(a.ResourceClaims, b.ResourceClaims)
}

// sameRequests tells whether two specifications ask for the same resources and ports.
func sameRequests(a, b *corev1.PodSpec) bool {
	return a == b || sameList(a.Overhead, b.Overhead) &&
		(a.Resources == b.Resources || a.Resources != nil && b.Resources != nil && sameList(a.Resources.Requests, b.Resources.Requests)) &&
		sameContainers(a.Containers, b.Containers) && sameContainers(a.InitContainers, b.InitContainers)
}

func sameList(a, b corev1.ResourceList) bool {
	return maps.EqualFunc(a, b, func(x, y resourceQuantity) bool { return x.Cmp(y) == 0 })
}

func sameContainers(a, b []corev1.Container) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if !sameList(x.Resources.Requests, y.Resources.Requests) || !slices.Equal(x.Ports, y.Ports) ||
			(x.RestartPolicy == nil) != (y.RestartPolicy == nil) || x.RestartPolicy != nil && *x.RestartPolicy != *y.RestartPolicy {
			return false
		}
	}
	return true
}

func sameImages(a, b []corev1.Container) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Container) bool { return x.Image == y.Image })
}

// sameToleration leaves out for how long, which is no question of scheduling.
func sameToleration(a, b corev1.Toleration) bool {
	return a.Key == b.Key && a.Operator == b.Operator && a.Value == b.Value && a.Effect == b.Effect
}

func sameAffinity(a, b *corev1.Affinity, pinned bool) bool {
	if a == b {
		return true
	}
	if !pinned || a == nil || b == nil {
		return equality.Semantic.DeepEqual(a, b)
	}
	x, y := withoutName(a), withoutName(b)
	return equality.Semantic.DeepEqual(x, y)
}

// sameVolumes tells whether the volumes that decide about a node are the same. Each pod has ephemeral volumes of its own.
func sameVolumes(a, b []corev1.Volume) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	x, y := slices.DeleteFunc(slices.Clone(a), indifferent), slices.DeleteFunc(slices.Clone(b), indifferent)
	return len(x)+len(y) == 0 || !slices.ContainsFunc(x, func(v corev1.Volume) bool { return v.Ephemeral != nil }) && equality.Semantic.DeepEqual(x, y)
}

// indifferent tells whether a volume can be on any node.
func indifferent(v corev1.Volume) bool {
	return v.PersistentVolumeClaim == nil && v.Ephemeral == nil && v.Image == nil && !disk(&v)
}

func never(a *corev1.PodSpec) bool {
	return a.PreemptionPolicy != nil && *a.PreemptionPolicy == corev1.PreemptNever
}
