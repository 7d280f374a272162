package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		before := name
		for _, f := range term.MatchFields {
			if !names(f) {
				continue
			}
			if name != "" && name != f.Values[0] {
				return ""
			}
			name = f.Values[0]
		}
		if name == "" || before != "" && !slices.ContainsFunc(term.MatchFields, names) {
			return ""
		}
	}
	return name
}

// names tells whether a requirement names one node.
func names(f corev1.NodeSelectorRequirement) bool {
	return f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1
}

// sharesPin tells whether a pod, which may be on one node only, can be of one class with those for other nodes, so that a daemon on each of
// many nodes costs no look at all nodes for each. A constraint counts the pods of the nodes that the pod may be on, so that
// pods with constraints of their own, or of the profile, have each a class; Kubernetes' default ones only score.
func (p *Profile) sharesPin(pod *corev1.Pod) bool {
	return PinnedTo(&pod.Spec) != "" && len(pod.Spec.TopologySpreadConstraints) == 0 && (p.SystemDefaults || len(p.DefaultConstraints) == 0)
}

// unpinned is a copy of a pinned pod that may be on any node that its other requirements allow.
func unpinned(pod *corev1.Pod) *corev1.Pod {
	out := *pod
	out.Spec.Affinity = withoutName(pod.Spec.Affinity)
	return &out
}

// withoutName is the affinity without the requirement that names a node.
func withoutName(a *corev1.Affinity) *corev1.Affinity {
	out, node := *a, *a.NodeAffinity
	required := &corev1.NodeSelector{}
	for _, t := range node.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		t.MatchFields = slices.DeleteFunc(slices.Clone(t.MatchFields), names)
		if len(t.MatchFields) == 0 && len(t.MatchExpressions) == 0 {
			required = nil // an empty term would match nothing
			break
		}
		required.NodeSelectorTerms = append(required.NodeSelectorTerms, t)
	}
	node.RequiredDuringSchedulingIgnoredDuringExecution = required
	out.NodeAffinity = &node
	return &out
}
