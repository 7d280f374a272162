package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// remaining is what a namespace that is being deleted still holds: how many objects by resource with its group, and how many that each finalizer
// keeps.
type remaining struct {
	count, finalizers map[string]int
}

// take counts the objects of some resources and returns the deletions that are still to be asked for.
func (r *remaining) take(v View, namespace string, of func(resource string) bool) Result {
	r.count, r.finalizers = map[string]int{}, map[string]int{}
	var res Result
	for _, k := range object.Kinds() {
		if !k.Namespaced || !of(k.Resource) {
			continue
		}
		for child := range v.List(k.Resource, namespace) {
			r.count[k.Resource+"."+k.GVK.Group]++
			for _, f := range child.GetFinalizers() {
				r.finalizers[f]++
			}
			if child.GetDeletionTimestamp() == nil {
				res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(child)})
			}
		}
	}
	return res
}

// tell writes the namespace's conditions, in Kubernetes' words.
func (r *remaining) tell(ns *corev1.Namespace, now time.Time) {
	set := func(kind corev1.NamespaceConditionType, status corev1.ConditionStatus, reason, message string) {
		c := corev1.NamespaceCondition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second))}
		i := slices.IndexFunc(ns.Status.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == kind })
		if i < 0 {
			ns.Status.Conditions = append(ns.Status.Conditions, c)
			return
		}
		if ns.Status.Conditions[i].Status == status {
			c.LastTransitionTime = ns.Status.Conditions[i].LastTransitionTime
		}
		ns.Status.Conditions[i] = c
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, corev1.ConditionFalse, "ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, corev1.ConditionFalse, "ParsedGroupVersions", "All legacy kube types successfully parsed")
	set(corev1.NamespaceDeletionContentFailure, corev1.ConditionFalse, "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	if len(r.count) > 0 {
		set(corev1.NamespaceContentRemaining, corev1.ConditionTrue, "SomeResourcesRemain", "Some resources are remaining: "+each(r.count, "%s has %d resource instances"))
	} else {
		set(corev1.NamespaceContentRemaining, corev1.ConditionFalse, "ContentRemoved", "All content successfully removed")
	}
	if len(r.finalizers) > 0 {
		set(corev1.NamespaceFinalizersRemaining, corev1.ConditionTrue, "SomeFinalizersRemain",
			"Some content in the namespace has finalizers remaining: "+each(r.finalizers, "%s in %d resource instances"))
	} else {
		set(corev1.NamespaceFinalizersRemaining, corev1.ConditionFalse, "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	}
}

// each writes numbers by name, in the order of names.
func each(numbers map[string]int, format string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		out = append(out, fmt.Sprintf(format, name, numbers[name]))
	}
	return strings.Join(out, ", ")
}
