package controller

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// adopters are the kinds that take orphans, with what they take, in the order in which they may.
var adopters = []struct {
	resource, takes string
	kind            schema.GroupVersionKind
}{
	{"replicasets", "pods", appsv1.SchemeGroupVersion.WithKind("ReplicaSet")},
	{"replicationcontrollers", "pods", corev1.SchemeGroupVersion.WithKind("ReplicationController")},
	{"statefulsets", "pods", appsv1.SchemeGroupVersion.WithKind("StatefulSet")},
	{"daemonsets", "pods", appsv1.SchemeGroupVersion.WithKind("DaemonSet")},
	{"jobs", "pods", batchv1.SchemeGroupVersion.WithKind("Job")},
	{"deployments", "replicasets", appsv1.SchemeGroupVersion.WithKind("Deployment")},
}

// adoption gives orphans to the owner whose selector matches them: pods to what makes pods, ReplicaSets to Deployments. Its key is
// the orphan. Of several owners that match, the first by kind and name takes it, once; who adopts must not be going away.
type adoption struct{}

func (adoption) Name() string { return "adoption" }

func (adoption) Watches() []string {
	out := []string{"pods"}
	for _, a := range adopters {
		out = append(out, a.resource)
	}
	return out
}

func (adoption) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.New == nil {
		return
	}
	if isTaken(ch.Key.Resource) && metav1.GetControllerOfNoCopy(ch.New) == nil && ch.New.GetDeletionTimestamp() == nil && len(ch.New.GetLabels()) > 0 {
		emit(ch.Key)
	}
	if ch.Old != nil || !mayFindOrphans(ch.New) {
		return
	}
	for _, a := range adopters {
		if a.resource != ch.Key.Resource {
			continue
		}
		for o := range v.Orphans(a.takes, ch.Key.Namespace) {
			emit(object.KeyOf(o))
		}
	}
}

// isTaken tells whether objects of the resource are adopted.
func isTaken(resource string) bool { return resource == "pods" || resource == "replicasets" }

// mayFindOrphans tells of a new owner whether there may be pods for it already: of a job there are none, as no pod but its own has the label which its
// selector asks for, unless its user chose the selector.
func mayFindOrphans(owner object.Object) bool {
	j, isJob := owner.(*batchv1.Job)
	return !isJob || j.Spec.ManualSelector != nil && *j.Spec.ManualSelector
}

func (adoption) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil || metav1.GetControllerOfNoCopy(o) != nil {
		return Result{}, nil
	}
	if p, isPod := o.(*corev1.Pod); isPod && podEnded(p) {
		return Result{}, nil
	}
	for _, a := range adopters {
		if a.takes != key.Resource {
			continue
		}
		for owner := range v.List(a.resource, key.Namespace) {
			if owner.GetDeletionTimestamp() != nil || !selects(owner, o) {
				continue
			}
			c := object.Copy(o)
			c.SetOwnerReferences(append(c.GetOwnerReferences(), *metav1.NewControllerRef(owner, a.kind)))
			if a.resource == "jobs" && !slices.Contains(c.GetFinalizers(), batchv1.JobTrackingFinalizer) {
				c.SetFinalizers(append(c.GetFinalizers(), batchv1.JobTrackingFinalizer))
			}
			return Result{Put: []object.Object{c}}, nil
		}
	}
	return Result{}, nil
}

func selects(owner, o object.Object) bool {
	var sel *metav1.LabelSelector
	switch owner := owner.(type) {
	case *appsv1.ReplicaSet:
		sel = owner.Spec.Selector
	case *appsv1.Deployment:
		sel = owner.Spec.Selector
	case *appsv1.DaemonSet:
		sel = owner.Spec.Selector
	case *appsv1.StatefulSet:
		// Its pods are known by their names: web-3 may be the set web's, and no other's.
		if base, ordinal := cutOrdinal(o.GetName()); base != owner.Name || ordinal < 0 {
			return false
		}
		sel = owner.Spec.Selector
	case *batchv1.Job:
		if jobFinished(owner) || managedElsewhere(owner) {
			return false
		}
		sel = owner.Spec.Selector
	case *corev1.ReplicationController:
		sel = &metav1.LabelSelector{MatchLabels: owner.Spec.Selector}
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	return err == nil && sel != nil && !s.Empty() && s.Matches(labels.Set(o.GetLabels()))
}
