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
type replicationControllers struct{ admit PodAdmission }

func (replicationControllers) Name() string { return "replicationcontroller" }
func (replicationControllers) Watches() []string {
	return []string{"replicationcontrollers", "pods", "serviceaccounts"}
}

func (replicationControllers) final(resource string) bool {
	return resource == "replicationcontrollers"
}

func (replicationControllers) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "pods":
		emitPodOwner(ch, "ReplicationController", "replicationcontrollers", emit)
	case "serviceaccounts":
		emitForAccount(v, ch, "replicationcontrollers", emit)
	default:
		if ch.New != nil {
			emit(ch.Key)
		}
	}
}

func (c replicationControllers) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*corev1.ReplicationController)
	if live.Spec.Template == nil {
		return Result{}, nil
	}
	s := replicaSync{v: v, admit: c.admit, now: now, live: asReplicaSet(live), about: live, kind: corev1.SchemeGroupVersion.WithKind("ReplicationController"), component: "replication-controller"}
	s.run(labels.Set(live.Spec.Selector).AsSelectorPreValidated())
	rc := *live
	rc.Annotations = s.rs.Annotations
	st := &s.rs.Status
	rc.Status = corev1.ReplicationControllerStatus{Replicas: st.Replicas, FullyLabeledReplicas: st.FullyLabeledReplicas, ReadyReplicas: st.ReadyReplicas,
		AvailableReplicas: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration, Conditions: conditionsOfController(st.Conditions)}
	s.res.Put = append(s.res.Put, &rc)
	return s.res, nil
}

// asReplicaSet is a ReplicationController in the form of a ReplicaSet. They share what they hold: neither may be written through.
func asReplicaSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	var conditions []appsv1.ReplicaSetCondition
	for _, c := range rc.Status.Conditions {
		conditions = append(conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Status:     appsv1.ReplicaSetStatus{Conditions: conditions},
		Spec: appsv1.ReplicaSetSpec{Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}, Template: *rc.Spec.Template},
	}
}

func conditionsOfController(list []appsv1.ReplicaSetCondition) (out []corev1.ReplicationControllerCondition) {
	for _, c := range list {
		out = append(out, corev1.ReplicationControllerCondition{Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return out
}
