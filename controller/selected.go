package controller

import (
	"cmp"
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// sortsSelected yields the sorts of a namespace's pods that a selector takes, without a look at each pod. Where the selector asks for labels that number
// pods each pod is a sort.
func sortsSelected(v View, namespace string, sel labels.Selector) iter.Seq[object.Alike] {
	return func(yield func(object.Alike) bool) {
		if !object.SeesAlike(sel) {
			for o := range v.List("pods", namespace) {
				if p := o.(*corev1.Pod); sel.Matches(labels.Set(p.Labels)) && !yield(object.Alike{Sort: p.Name, Example: p, Pods: 1}) {
					return
				}
			}
			return
		}
		for a := range v.Alike(namespace, "") {
			if sel.Matches(labels.Set(a.Example.Labels)) && !yield(a) {
				return
			}
		}
	}
}

// podsSelected are the pods of a namespace that a selector takes, by name. It looks at the pods of those owners only that have such pods.
func podsSelected(v View, namespace string, sel labels.Selector) []*corev1.Pod {
	var out []*corev1.Pod
	take := func(p *corev1.Pod) {
		if sel.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	if !object.SeesAlike(sel) {
		for o := range v.List("pods", namespace) {
			take(o.(*corev1.Pod))
		}
		return out
	}
	owners := map[types.UID]bool{}
	for a := range sortsSelected(v, namespace, sel) {
		owners[controllerUID(a.Example)] = true
	}
	for owner := range owners {
		list := v.Owned(owner)
		if owner == "" {
			list = v.Orphans("pods", namespace)
		}
		for o := range list {
			if p, ok := o.(*corev1.Pod); ok && p.Namespace == namespace && controllerUID(p) == owner {
				take(p)
			}
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// controllerUID is the UID of a pod's controller, empty if it has none.
func controllerUID(p *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return ref.UID
	}
	return ""
}
