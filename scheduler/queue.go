package scheduler

import (
	"cmp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// queued is a pod with what its place in the queue depends on, read once: thousands come together.
type queued struct {
	pod   *corev1.Pod
	owner string
	slot  int
}

func newQueued(p *corev1.Pod) queued {
	q := queued{pod: p, slot: -1}
	if r := metav1.GetControllerOfNoCopy(p); r != nil {
		q.owner = r.Name
	}
	if n, err := strconv.Atoi(p.Annotations[object.AnnotationSlot]); err == nil {
		q.slot = n
	}
	return q
}

// compare orders pods as kube-scheduler's queue does (priority, then age); pods of one owner stand together in the order of their slots.
func (q *queued) compare(o *queued) int {
	a, b := q.pod, o.pod
	if n := cmp.Compare(priorityOf(b), priorityOf(a)); n != 0 {
		return n
	}
	if n := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); n != 0 {
		return n
	}
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(q.owner, o.owner), cmp.Compare(q.slot, o.slot), cmp.Compare(a.Name, b.Name))
}

// waits tells whether a pod waits for a node from us: it has none, none of its gates is closed, and a profile is for it.
func (p Profiles) waits(pod *corev1.Pod) bool {
	if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || ended(pod) || len(pod.Spec.SchedulingGates) > 0 {
		return false
	}
	_, ours := p.Of(pod)
	return ours
}

// queue lists the pods that wait, in the order in which they are tried.
func queue(src Source, profiles Profiles) []*corev1.Pod {
	var list []queued
	for p := range src.Unbound() {
		if profiles.waits(p) {
			list = append(list, newQueued(p))
		}
	}
	slices.SortFunc(list, func(a, b queued) int { return a.compare(&b) })
	out := make([]*corev1.Pod, len(list))
	for i := range list {
		out[i] = list[i].pod
	}
	return out
}

// Told tells whether a pod says already that no node takes it.
func Told(p *corev1.Pod) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodScheduled {
			return c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
		}
	}
	return false
}
