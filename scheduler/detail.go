package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// podsNamed is how many pods a detail names before it only counts.
const podsNamed = 3

// affinityDetail names what a node's labels and fields lack of the pod's nodeSelector and required node affinity.
func affinityDetail(pod *corev1.Pod, n *corev1.Node) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
		if v, ok := n.Labels[k]; !ok || v != pod.Spec.NodeSelector[k] {
			out = append(out, fmt.Sprintf("nodeSelector wants %s=%s, %s", k, pod.Spec.NodeSelector[k], labelOf(n, k)))
		}
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil || pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return out
	}
	var terms []string
	for _, t := range pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		lacks := lacking(n, t)
		if lacks == "" {
			return out // this term holds, and one is enough
		}
		terms = append(terms, lacks)
	}
	if len(terms) == 0 {
		return append(out, "the required node affinity has no terms, and so matches no node")
	}
	return append(out, "node affinity wants "+strings.Join(terms, ", or "))
}

// lacking names the first requirement of a term that the node does not meet; empty if it meets all.
func lacking(n *corev1.Node, t corev1.NodeSelectorTerm) string {
	if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
		return "nothing, in an empty term, which matches no node"
	}
	meets := func(one corev1.NodeSelectorTerm) bool {
		s, err := nodeaffinity.NewNodeSelector(&corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{one}})
		return err == nil && s.Match(n)
	}
	for _, r := range t.MatchExpressions {
		if !meets(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{r}}) {
			return requirement(r) + " where " + labelOf(n, r.Key)
		}
	}
	for _, r := range t.MatchFields {
		if !meets(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{r}}) {
			return requirement(r)
		}
	}
	return ""
}

func requirement(r corev1.NodeSelectorRequirement) string {
	out := r.Key + " " + string(r.Operator)
	if len(r.Values) > 0 {
		out += " [" + strings.Join(r.Values, " ") + "]"
	}
	return out
}

func labelOf(n *corev1.Node, key string) string {
	if v, ok := n.Labels[key]; ok {
		return fmt.Sprintf("the node has %s=%s", key, v)
	}
	return "the node has no label " + key
}

// interDetail names the pods that a class's rules about others trip over on a node, or those that are missing. known keeps what was found for a domain:
// its nodes are refused alike.
func (s *Snapshot) interDetail(c *class, n *nodeState, r *refusal, known map[string]string) (out []string) {
	at := s.byName[n.node.Name]
	ask := func(rule, key string, pods func(*podState) bool, say func(place, who string) string) {
		t := s.topology(key)
		d := t.domain[at]
		if d < 0 {
			return
		}
		place := key + "=" + n.node.Labels[key]
		id := rule + " " + place
		text, ok := known[id]
		if !ok {
			text = say(place, s.who(t.members[d], pods))
			known[id] = text
		}
		if text != "" {
			out = append(out, text)
		}
	}
	switch r {
	case refusePodAffinity:
		for i := range c.inter.terms.affinity {
			t := &c.inter.terms.affinity[i]
			if _, ok := n.node.Labels[t.key]; !ok {
				out = append(out, "the node has no label "+t.key)
				continue
			}
			ask(fmt.Sprint("affinity ", i), t.key, func(q *podState) bool {
				return t.selects(q.group.namespace, s.namespace(q.group.namespace), q.group.labels)
			}, func(place, who string) string {
				if who != "" {
					return ""
				}
				return fmt.Sprintf("no pod with %s is in %s", t.selector, place)
			})
		}
	case refusePodAnti:
		for i := range c.inter.terms.anti {
			t := &c.inter.terms.anti[i]
			ask(fmt.Sprint("anti ", i), t.key, func(q *podState) bool {
				return t.selects(q.group.namespace, s.namespace(q.group.namespace), q.group.labels)
			}, func(place, who string) string { return inTheWay("it does not go with", who, place) })
		}
	case refuseExistingAnti:
		ours := s.namespace(c.pod.Namespace)
		for _, key := range slices.Sorted(maps.Keys(c.inter.existing)) {
			ask("existing", key, func(q *podState) bool {
				return slices.ContainsFunc(q.group.terms.anti, func(t term) bool { return t.key == key && t.means(c.pod.Namespace, ours, c.pod.Labels) })
			}, func(place, who string) string { return inTheWay("it is not let near", who, place) })
		}
	}
	return out
}

func inTheWay(how, who, place string) string {
	if who == "" {
		return ""
	}
	return fmt.Sprintf("%s %s in %s", how, who, place)
}

// who names the pods on some nodes that are meant, the first few of them; empty if there are none.
func (s *Snapshot) who(nodes []int32, meant func(*podState) bool) string {
	var names []string
	more := 0
	for _, at := range nodes {
		for _, q := range s.nodes[at].pods {
			switch {
			case !meant(q):
			case len(names) == podsNamed:
				more++
			default:
				names = append(names, q.pod.Namespace+"/"+q.pod.Name)
			}
		}
	}
	out := strings.Join(names, ", ")
	if more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}
