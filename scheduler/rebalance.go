package scheduler

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Move is a pod that would be better off elsewhere.
type Move struct {
	Pod  *corev1.Pod
	From string
	To   string
	// Gain is how much more the new node scores than the old one, by the pod's profile; 0 if the old one refuses the pod now (Refused).
	Gain    int64
	Refused string
}

// Rebalance proposes moves that raise the score of pods by at least gain each, or take them off nodes that would refuse them today. Each
// pod is looked at once, those of the fullest nodes first, with the moves before it made, so that no pod is moved back and forth. Pods
// that no controller makes anew, daemons, and pods that are going stay. The snapshot is as if all moves were made.
func (s *Snapshot) Rebalance(gain int64, most int) (out []Move) {
	order := make([]int32, len(s.nodes))
	for i := range order {
		order[i] = int32(i)
	}
	fullness := func(at int32) int64 { return s.profileOf(&corev1.Pod{}).fitScore(s.nodes[at], &demand{}) }
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(fullness(a), fullness(b)), cmp.Compare(s.nodes[a].node.Name, s.nodes[b].node.Name))
	})
	moved := map[types.UID]bool{}
	for _, at := range order {
		pods := slices.Clone(s.nodes[at].pods)
		slices.SortStableFunc(pods, func(a, b *podState) int {
			return cmp.Or(cmp.Compare(priorityOf(a.pod), priorityOf(b.pod)), cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name))
		})
		for _, q := range pods {
			if len(out) == most {
				return out
			}
			if q.owner == "" || PinnedTo(&q.pod.Spec) != "" || q.group.terminating || moved[q.pod.UID] {
				continue
			}
			if m, better := s.move(at, q, gain); better {
				moved[q.pod.UID] = true
				out = append(out, m)
			}
		}
	}
	return out
}

// move moves one pod if that is better by gain; if not, it stays where it is.
func (s *Snapshot) move(at int32, q *podState, gain int64) (Move, bool) {
	free := *q.pod
	free.Spec.NodeName, free.Status.NominatedNodeName = "", ""
	s.take(at, q)
	c := s.classOf(&free)
	p := &podState{pod: &free, demand: c.demand, group: c.group}
	m := Move{Pod: q.pod, From: s.nodes[at].node.Name}
	if c.all != nil {
		s.put(at, q)
		return m, false
	}
	list := s.candidates(c, p)
	best := s.best(c, list)
	if best < 0 || best == at {
		s.put(at, q)
		return m, false
	}
	if r := s.refusalOf(c, p, at); r != nil {
		m.Refused = r.plugin
	} else {
		m.Gain = c.totalOf(list, best) - c.totalOf(list, at)
	}
	if m.Refused == "" && m.Gain < gain {
		s.put(at, q)
		return m, false
	}
	m.To = s.nodes[best].node.Name
	s.put(best, q)
	return m, true
}

// totalOf is the score of a node among candidates.
func (c *class) totalOf(list []candidate, at int32) int64 {
	for k := range list {
		if m := &list[k]; m.node == at || c.of[at] != nil && c.of[at] == c.of[m.node] {
			return m.total - c.base[m.node] + c.base[at]
		}
	}
	return 0
}
