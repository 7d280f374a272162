package controller

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

// adoption gives orphans to the owner whose selector matches them: pods to ReplicaSets, ReplicaSets to Deployments. Its key is
// the orphan. Of several owners that match, the first by name takes it, once; who adopts must not be going away.
type adoption struct{}

func (adoption) Name() string      { return "adoption" }
func (adoption) Watches() []string { return []string{"pods", "replicasets", "deployments"} }

func (adoption) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.New == nil {
		return
	}
	if ch.Key.Resource != "deployments" && metav1.GetControllerOfNoCopy(ch.New) == nil && ch.New.GetDeletionTimestamp() == nil && len(ch.New.GetLabels()) > 0 {
		emit(ch.Key)
	}
	children := map[string]string{"replicasets": "pods", "deployments": "replicasets"}[ch.Key.Resource]
	if ch.Old != nil || children == "" {
		return
	}
	for o := range v.List(children, ch.Key.Namespace) {
		if metav1.GetControllerOfNoCopy(o) == nil {
			emit(object.KeyOf(o))
		}
	}
}

func (adoption) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil || metav1.GetControllerOfNoCopy(o) != nil {
		return Result{}, nil
	}
	if p, isPod := o.(*corev1.Pod); isPod && podEnded(p) {
		return Result{}, nil
	}
	resource, kind := "replicasets", "ReplicaSet"
	if key.Resource == "replicasets" {
		resource, kind = "deployments", "Deployment"
	}
	for owner := range v.List(resource, key.Namespace) {
		if owner.GetDeletionTimestamp() != nil || !selects(owner, o) {
			continue
		}
		c := object.Copy(o)
		c.SetOwnerReferences(append(c.GetOwnerReferences(), *metav1.NewControllerRef(owner, appsv1.SchemeGroupVersion.WithKind(kind))))
		return Result{Put: []object.Object{c}}, nil
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
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	return err == nil && sel != nil && !s.Empty() && s.Matches(labels.Set(o.GetLabels()))
}
