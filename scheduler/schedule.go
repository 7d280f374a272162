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

// Schedule places the pods one after the other, in the order given, and binds each in the snapshot. Pods that only differ in
// name share their class, so that the cost of one more such pod is one pass over the nodes' scores.
func (s *Snapshot) Schedule(pods []*corev1.Pod) []Decision {
	out := make([]Decision, 0, len(pods))
	demands := map[types.UID]*demand{}
	var c *class
	refused := ""
	for _, pod := range pods {
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
	most := int64(0)
	for i, n := range c.own {
		if c.fit[i] {
			most = max(most, n)
		}
	}
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

// total is node i's sum for a pod of the class; most is the highest number of the owner's pods on a feasible node.
func (c *class) total(i int, most int64) int64 {
	spread := int64(100)
	if most > 0 {
		spread = 100 * (most - c.own[i]) / most
	}
	return c.least[i] + spreadWeight*spread
}

// verdicts tells of every node what stands against a pod of the class there.
func (s *Snapshot) verdicts(c *class) []Verdict {
	most := int64(0)
	for i, n := range c.own {
		if c.fit[i] {
			most = max(most, n)
		}
	}
	out := slices.Clone(c.static)
	for i, n := range s.nodes {
		switch {
		case c.fit[i]:
			out[i].Score = c.total(i, most)
		case !out[i].Fits:
		case slices.ContainsFunc(c.ports, n.conflicts):
			out[i] = Verdict{Node: n.node.Name, Plugin: "NodePorts", Reasons: []string{"node(s) didn't have free ports for the requested pod ports"}}
		default:
			out[i] = Verdict{Node: n.node.Name, Plugin: "NodeResourcesFit", Reasons: n.short(c.demand)}
		}
	}
	return out
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
