package scheduler

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// spreadWeight is the weight of spreading an owner's pods against LeastAllocated's 1, as PodTopologySpread's in kube-scheduler.
const spreadWeight = 2

// shunWeight is that of PreferNoSchedule taints, as TaintToleration's in kube-scheduler.
const shunWeight = 3

// Schedule places the pods one after the other, in the order given, and binds each in the snapshot. Pods that only differ in
// name share their class, so that the cost of one more such pod is one pass over the nodes' scores.
func (s *Snapshot) Schedule(pods []*corev1.Pod) []Decision {
	out := make([]Decision, 0, len(pods))
	demands := map[types.UID]*demand{}
	var c *class
	refused := ""
	for _, pod := range pods {
		if name := PinnedTo(&pod.Spec); name != "" {
			out = append(out, s.schedulePinned(pod, name, demandOf(pod, demands)))
			c, refused = nil, ""
			continue
		}
		if c == nil || c.owner == "" || demandOf(pod, demands) != c.demand {
			c, refused = s.newClass(pod, demands), ""
		}
		if refused != "" {
			// Nothing was freed since: the same class meets the same reasons.
			out = append(out, Decision{Pod: pod, Message: refused})
			continue
		}
		best := s.best(c, podHash(pod, c.owner))
		if best < 0 {
			refused = message(s.verdicts(c))
			out = append(out, Decision{Pod: pod, Message: refused})
			continue
		}
		n := s.nodes[best]
		n.add(pod, c.demand)
		c.update(best, n)
		out = append(out, Decision{Pod: pod, Node: n.node.Name})
	}
	return out
}

// best returns the feasible node with the highest score, -1 if there is none.
func (s *Snapshot) best(c *class, pod uint64) int {
	most := c.most()
	best, bestScore, bestTie := -1, int64(-1), uint64(0)
	for i, n := range s.nodes {
		if !c.fit[i] {
			continue
		}
		total := c.total(i, most)
		if total < bestScore {
			continue
		}
		t := tie(pod, n.hash)
		if total > bestScore || t > bestTie {
			best, bestScore, bestTie = i, total, t
		}
	}
	return best
}

// extremes are the highest numbers on a feasible node, which scores are measured against.
type extremes struct{ own, shun int64 }

func (c *class) most() (m extremes) {
	for i, fits := range c.fit {
		if fits {
			m.own, m.shun = max(m.own, c.own[i]), max(m.shun, c.shun[i])
		}
	}
	return m
}

// total is node i's sum for a pod of the class.
func (c *class) total(i int, most extremes) int64 {
	return c.least[i] + spreadWeight*reverse(c.own[i], most.own) + shunWeight*reverse(c.shun[i], most.shun)
}

// reverse is 100 for none and 0 for the most there are; 100 for all where there are none.
func reverse(n, most int64) int64 {
	if most == 0 {
		return 100
	}
	return 100 * (most - n) / most
}

// verdicts tells of every node what stands against a pod of the class there.
func (s *Snapshot) verdicts(c *class) []Verdict {
	most := c.most()
	out := slices.Clone(c.static)
	for i, n := range s.nodes {
		switch {
		case c.fit[i]:
			out[i].Score = c.total(i, most)
		case !out[i].Fits:
		default:
			out[i] = n.refusal(c.demand)
		}
	}
	return out
}

// refusal is why a node has no room for a demand.
func (n *nodeState) refusal(d *demand) Verdict {
	if slices.ContainsFunc(d.ports, n.conflicts) {
		return Verdict{Node: n.node.Name, Plugin: "NodePorts", Reasons: []string{"node(s) didn't have free ports for the requested pod ports"}}
	}
	return Verdict{Node: n.node.Name, Plugin: "NodeResourcesFit", Reasons: n.short(d)}
}

// message sums up verdicts in kube-scheduler's words: each reason with the number of nodes, sorted as text.
func message(vs []Verdict) string {
	if len(vs) == 0 {
		return "no nodes available to schedule pods"
	}
	counts := map[string]int{}
	for _, v := range vs {
		for _, r := range v.Reasons {
			counts[r]++
		}
	}
	parts := make([]string, 0, len(counts))
	for r, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, r))
	}
	sort.Strings(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", len(vs), strings.Join(parts, ", "))
}
