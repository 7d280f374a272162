package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
	"reconcile/scheduler"
)

// priorityClasses keeps the two PriorityClasses that every cluster of Kubernetes has, for those who list them. Its keys are the classes.
type priorityClasses struct{ cluster string }

// systemClasses say what the classes are for, in Kubernetes' words.
var systemClasses = map[string]string{
	scheduler.SystemClusterCritical: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
	scheduler.SystemNodeCritical:    "Used for system critical pods that must not be moved from their current node.",
}

func (priorityClasses) Name() string      { return "priorityclass" }
func (priorityClasses) Watches() []string { return []string{"priorityclasses"} }

// Start makes the classes appear in an empty cluster.
func (priorityClasses) Start() []object.Key {
	return []object.Key{{Resource: "priorityclasses", Name: scheduler.SystemClusterCritical}, {Resource: "priorityclasses", Name: scheduler.SystemNodeCritical}}
}

func (c priorityClasses) Keys(_ View, ch Change, emit func(object.Key)) {
	if slices.Contains(c.Start(), ch.Key) {
		emit(ch.Key)
	}
}

func (c priorityClasses) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	if _, ok := v.Get(key); ok {
		return Result{}, nil
	}
	value, _ := scheduler.SystemPriority(key.Name)
	policy := corev1.PreemptLowerPriority
	return Result{Put: []object.Object{&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: key.Name, UID: HashUID("priorityclass", c.cluster, key.Name)},
		Value: value, PreemptionPolicy: &policy, Description: systemClasses[key.Name]}}}, nil
}
