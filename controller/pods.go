package controller

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// podEnded tells whether a pod has run to its end.
func podEnded(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// podCondition returns a pod's condition, nil if it has none of the type.
func podCondition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func podReady(p *corev1.Pod) bool {
	c := podCondition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// readySince is when a ready pod became so.
func readySince(p *corev1.Pod) time.Time {
	if c := podCondition(p, corev1.PodReady); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// rankForDeletion orders active pods by who goes first, as Kubernetes' ReplicaSet controller does: unassigned before assigned,
// pending before unknown before running, unready before ready, low deletion cost, many related pods on the node, ready for
// less long (by orders of magnitude), more restarts, younger (likewise), then UID.
func rankForDeletion(pods []*corev1.Pod, related map[string]int, now time.Time) []*corev1.Pod {
	out := slices.Clone(pods)
	slices.SortFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(
			boolFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			boolFirst(!podReady(a), !podReady(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(related[b.Spec.NodeName], related[a.Spec.NodeName]),
			compareReady(a, b, now),
			cmp.Compare(restarts(b), restarts(a)),
			cmp.Compare(logAge(a.CreationTimestamp.Time, now), logAge(b.CreationTimestamp.Time, now)),
			cmp.Compare(a.UID, b.UID),
		)
	})
	return out
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	}
	return 0
}

func deletionCost(p *corev1.Pod) int64 {
	n, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

func compareReady(a, b *corev1.Pod, now time.Time) int {
	if !podReady(a) || !podReady(b) {
		return 0
	}
	return cmp.Compare(logAge(readySince(a), now), logAge(readySince(b), now))
}

// logAge is the order of magnitude (base 2) of an age in nanoseconds, so that pods of about the same age fall by UID.
func logAge(t, now time.Time) int {
	d := now.Sub(t)
	if t.IsZero() || d < 0 {
		return -1
	}
	return bits.Len64(uint64(d))
}

func restarts(p *corev1.Pod) int32 {
	n := int32(0)
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			n = max(n, list[i].RestartCount)
		}
	}
	return n
}
