package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// PinnedTo is the one node that a pod's required node affinity names (matchFields metadata.name), as a daemon's does; empty if it
// does not name one.
func PinnedTo(spec *corev1.PodSpec) string {
	a := spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	name := ""
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		i := slices.IndexFunc(term.MatchFields, func(f corev1.NodeSelectorRequirement) bool {
			return f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1
		})
		if i < 0 || name != "" && name != term.MatchFields[i].Values[0] {
			return ""
		}
		name = term.MatchFields[i].Values[0]
	}
	return name
}

// schedulePinned decides about the one node that a pod may be on. No other is looked at, so that a daemon on each of many nodes costs
// no look at all nodes for each.
func (s *Snapshot) schedulePinned(pod *corev1.Pod, name string, d *demand) Decision {
	const elsewhere = "node(s) didn't match Pod's node affinity/selector"
	n, known := s.byName[name]
	if !known {
		return Decision{Pod: pod, Message: pinnedMessage(len(s.nodes), len(s.nodes), elsewhere, nil)}
	}
	v := static(n.node, pod, nodeaffinity.GetRequiredNodeAffinity(pod))
	switch {
	case !v.Fits:
	case n.fits(d):
		n.add(pod, d)
		return Decision{Pod: pod, Node: n.node.Name}
	default:
		v = n.refusal(d)
	}
	return Decision{Pod: pod, Message: pinnedMessage(len(s.nodes), len(s.nodes)-1, elsewhere, v.Reasons)}
}

func pinnedMessage(nodes, others int, elsewhere string, reasons []string) string {
	var vs []Verdict
	for range others {
		vs = append(vs, Verdict{Reasons: []string{elsewhere}})
	}
	if others < nodes {
		vs = append(vs, Verdict{Reasons: reasons})
	}
	return message(vs)
}
