package controller

import (
	"cmp"
	"math/bits"
	"slices"
	"strconv"
	"strings"
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
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(
			boolFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			boolFirst(!podReady(a), !podReady(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(related[b.Spec.NodeName], related[a.Spec.NodeName]),
			compareReady(a, b, now),
			compareRestarts(a, b),
			compareAge(a, b, a.CreationTimestamp.Time, b.CreationTimestamp.Time, now),
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
	return compareAge(a, b, readySince(a), readySince(b), now)
}

// compareAge puts the younger of two times first, by orders of magnitude; times that differ and are of one order fall by UID, so
// that not always the youngest pods go. A time that is not known counts as the youngest.
func compareAge(a, b *corev1.Pod, s, t, now time.Time) int {
	switch {
	case s.Equal(t):
		return 0
	case s.IsZero() || t.IsZero():
		return boolFirst(s.IsZero(), t.IsZero())
	}
	return cmp.Or(cmp.Compare(logAge(s, now), logAge(t, now)), cmp.Compare(a.UID, b.UID))
}

// logAge is the order of magnitude (base 2) of an age in nanoseconds, -1 for what is not past.
func logAge(t, now time.Time) int {
	d := now.Sub(t)
	if d <= 0 {
		return -1
	}
	return bits.Len64(uint64(d)) - 1
}

// compareRestarts puts the pod first whose containers were restarted more often, sidecars counting second.
func compareRestarts(a, b *corev1.Pod) int {
	ar, as := restarts(a)
	br, bs := restarts(b)
	return cmp.Or(cmp.Compare(br, ar), cmp.Compare(bs, as))
}

// restarts are the highest restart counts of a pod's containers and of its sidecars.
func restarts(p *corev1.Pod) (containers, sidecars int32) {
	for i := range p.Status.ContainerStatuses {
		containers = max(containers, p.Status.ContainerStatuses[i].RestartCount)
	}
	for i := range p.Status.InitContainerStatuses {
		st := &p.Status.InitContainerStatuses[i]
		if isSidecar(p, st.Name) {
			sidecars = max(sidecars, st.RestartCount)
		}
	}
	return containers, sidecars
}

// isSidecar tells whether an init container of a pod runs as long as the pod.
func isSidecar(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// cutOrdinal splits the name of a stateful set's pod; ordinal is -1 if the name has none.
func cutOrdinal(name string) (base string, ordinal int) {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return name, -1
	}
	n, err := strconv.Atoi(name[i+1:])
	if err != nil || n < 0 || strconv.Itoa(n) != name[i+1:] {
		return name, -1
	}
	return name[:i], n
}
