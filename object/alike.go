package object

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Alike is what a pod's owner sees of it as long as it need not tell it from others: pods of which that is the same are of one sort.
type Alike struct {
	// Labels are shared and not changed.
	Labels map[string]string
	// Terminating tells that it is being deleted, Ready that its condition Ready is True.
	Terminating, Ready bool
}

// AlikeOf is a pod's sort.
func AlikeOf(p *corev1.Pod) Alike {
	return Alike{Labels: p.Labels, Terminating: p.DeletionTimestamp != nil,
		Ready: slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })}
}

// String is the same for the same sort, and different for different ones.
func (a Alike) String() string {
	var b strings.Builder
	b.WriteByte("-t"[at(a.Terminating)])
	b.WriteByte("-r"[at(a.Ready)])
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) { // neither part of a label may hold one of these two signs
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(a.Labels[k])
		b.WriteByte(',')
	}
	return b.String()
}

func at(b bool) int {
	if b {
		return 1
	}
	return 0
}
