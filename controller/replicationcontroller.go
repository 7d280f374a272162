package controller

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

// replicationControllers keeps the wanted number of pods of each ReplicationController. Its rules are a ReplicaSet's: it runs in that
// form, as in Kubernetes.
type replicationControllers struct{}

func (replicationControllers) Name() string      { return "replicationcontroller" }
func (replicationControllers) Watches() []string { return []string{"replicationcontrollers", "pods"} }

func (replicationControllers) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "pods" {
		emitPodOwner(ch, "ReplicationController", "replicationcontrollers", emit)
	} else if ch.New != nil {
		emit(ch.Key)
	}
}

func (replicationControllers) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*corev1.ReplicationController)
	if live.Spec.Template == nil {
		return Result{}, nil
	}
	s := replicaSync{v: v, now: now, live: asReplicaSet(live), about: live, kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"), component: "replication-controller"}
	s.run(labels.Set(live.Spec.Selector).AsSelectorPreValidated())
	rc := *live
	rc.Annotations = s.rs.Annotations
	st := &s.rs.Status
	rc.Status = corev1.ReplicationControllerStatus{Replicas: st.Replicas, FullyLabeledReplicas: st.FullyLabeledReplicas, ReadyReplicas: st.ReadyReplicas,
		AvailableReplicas: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration, Conditions: live.Status.Conditions}
	s.res.Put = append(s.res.Put, &rc)
	return s.res, nil
}

// asReplicaSet is a ReplicationController in the form of a ReplicaSet. They share what they hold: neither may be written through.
func asReplicaSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}, Template: *rc.Spec.Template},
	}
}
