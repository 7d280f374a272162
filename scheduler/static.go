package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// nodeRules are what a pod asks of nodes themselves, read once.
type nodeRules struct {
	pod       *corev1.Pod
	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms
	enforced  *nodeaffinity.NodeSelector
	added     *nodeaffinity.PreferredSchedulingTerms
	only      sets.Set[string] // the nodes that the pod names; nil for any
	plain     bool             // neither the pod nor its profile asks for anything of a node
}

// newNodeRules reads them. pinned leaves out the name of the one node that the pod may be on.
func newNodeRules(pod *corev1.Pod, p *Profile, pinned bool) (*nodeRules, *refusal) {
	r := &nodeRules{pod: pod}
	if pinned {
		r.pod = unpinned(pod)
	}
	r.required = nodeaffinity.GetRequiredNodeAffinity(r.pod)
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
			r.preferred, _ = nodeaffinity.NewPreferredSchedulingTerms(terms)
		}
	}
	if a := p.AddedAffinity; a != nil {
		if a.RequiredDuringSchedulingIgnoredDuringExecution != nil {
			r.enforced, _ = nodeaffinity.NewNodeSelector(a.RequiredDuringSchedulingIgnoredDuringExecution)
		}
		if len(a.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
			r.added, _ = nodeaffinity.NewPreferredSchedulingTerms(a.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	if r.only = namedNodes(&r.pod.Spec); r.only != nil && len(r.only) == 0 {
		return nil, refuseConflict
	}
	asks := r.pod.Spec.Affinity != nil && r.pod.Spec.Affinity.NodeAffinity != nil
	r.plain = len(r.pod.Spec.NodeSelector) == 0 && !asks && p.AddedAffinity == nil
	return r, nil
}

// namedNodes are the nodes that the pod's required affinity names; nil if it names none in one of its terms, empty if its terms
// contradict themselves.
func namedNodes(spec *corev1.PodSpec) sets.Set[string] {
	a := spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	var all sets.Set[string]
	for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		var names sets.Set[string]
		for _, f := range t.MatchFields {
			if f.Key != metav1.ObjectNameField || f.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			if s := sets.New(f.Values...); names == nil {
				names = s
			} else {
				names = names.Intersection(s)
			}
		}
		if names == nil {
			return nil
		}
		all = all.Union(names)
	}
	return all
}

// refuse applies the rules that look at the node's specification only, in kube-scheduler's order; the first that refuses tells. nil if none
// does.
func (r *nodeRules) refuse(node *corev1.Node) *refusal {
	spec := &r.pod.Spec
	switch {
	case r.only != nil && !r.only.Has(node.Name):
		return refuseElsewhere
	case !ready(node):
		return refuseReady
	case node.Spec.Unschedulable && !toleratesUnschedulable(spec):
		return refuseUnschedulable
	case untolerated(node, spec) != nil:
		return refuseTaint
	case r.enforced != nil && !r.enforced.Match(node):
		return refuseEnforced
	case !r.matches(node):
		return refuseAffinity
	}
	return nil
}

// indifferent tells that a pod may be on a node, as any node like it, and neither prefers nor shuns it.
func (r *nodeRules) indifferent(n *nodeState) bool { return r.plain && n.open }

// matches tells whether the pod's selector and required affinity match.
func (r *nodeRules) matches(node *corev1.Node) bool {
	ok, err := r.required.Match(node)
	return ok && err == nil
}

// prefers is the weight of the preferences that the node meets.
func (r *nodeRules) prefers(node *corev1.Node) (n int64) {
	if r.preferred != nil {
		n += r.preferred.Score(node)
	}
	if r.added != nil {
		n += r.added.Score(node)
	}
	return n
}

// untolerated is the first taint that keeps the pod off the node, nil if there is none.
func untolerated(node *corev1.Node, spec *corev1.PodSpec) *corev1.Taint {
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !Tolerates(spec.Tolerations, t) {
			return t
		}
	}
	return nil
}

// shunned counts the taints that would have the pod elsewhere if there is an elsewhere. As in kube-scheduler, tolerations without an
// effect and those of PreferNoSchedule count.
func shunned(node *corev1.Node, pod *corev1.Pod) (n int64) {
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !Tolerates(pod.Spec.Tolerations, t) {
			n++
		}
	}
	return n
}

// ready holds pods off a node that never said that it is ready; one that stopped saying so has a taint.
func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
}

func toleratesUnschedulable(spec *corev1.PodSpec) bool {
	return Tolerates(spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
}

// Tolerates tells whether one of the tolerations matches the taint: an empty key with Exists matches all, an empty effect every
// effect, an empty operator means Equal.
func Tolerates(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	for i := range tolerations {
		tol := &tolerations[i]
		if tol.Effect != "" && tol.Effect != t.Effect || tol.Key != "" && tol.Key != t.Key {
			continue
		}
		switch tol.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			if tol.Value == t.Value {
				return true
			}
		}
	}
	return false
}
