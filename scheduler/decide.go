package scheduler

import (
	"maps"
	"math"
	"slices"
)

// candidate is a bucket that may take a pod, or one node of those looked at apart.
type candidate struct {
	node  int32 // the best of the bucket
	count int
	own   int64 // the weighted scores that depend on the node alone
	// What the rules say of all its nodes, before it is put into proportion.
	taints, preferred, spread, inter, near int64
	ignored                                bool // PodTopologySpread does not score it
	weighted                               [len(proportioned)]int64
	total                                  int64
}

// shift is a change of counts that is tried: delta more pods in the domains of one node, by slot. The zero value is none.
type shift struct {
	deltas []int64
	claims int64 // uses of claims that one pod only may use
}

func (h *shift) of(slot int) int64 {
	if h == nil {
		return 0
	}
	return h.deltas[slot]
}

// others applies the rules about other pods to a node, in kube-scheduler's order; h is what would be different in the node's domains. nil if
// none refuses.
func (c *class) others(i int32, h *shift) *refusal {
	for k := range c.hard {
		t := &c.hard[k]
		sl := c.slots[t.slot]
		d := sl.domain[i]
		if d < 0 {
			return refuseSpreadLabel
		}
		delta := h.of(t.slot)
		lowest := sl.with(d, delta)
		if sl.known < t.minDomains {
			lowest = 0
		}
		if sl.counts[d]+delta+t.self-lowest > t.maxSkew {
			return refuseSpread
		}
	}
	return c.interRefusal(i, h)
}

// interRefusal applies InterPodAffinity.
func (c *class) interRefusal(i int32, h *shift) *refusal {
	r := &c.inter
	met, somewhere := true, false
	for _, at := range r.affinity {
		sl := c.slots[at]
		d := sl.domain[i]
		if d < 0 {
			return refusePodAffinity
		}
		met = met && sl.counts[d]+h.of(at) > 0
		somewhere = somewhere || sl.total+h.of(at) > 0
	}
	if !met && (somewhere || !r.selfOK) {
		return refusePodAffinity
	}
	for _, at := range r.anti {
		if sl := c.slots[at]; sl.domain[i] >= 0 && sl.counts[sl.domain[i]]+h.of(at) > 0 {
			return refusePodAnti
		}
	}
	for _, at := range r.order {
		if sl := c.slots[at]; sl.domain[i] >= 0 && sl.counts[sl.domain[i]]+h.of(at) > 0 {
			return refuseExistingAnti
		}
	}
	return nil
}

// candidates are the places that may take a pod of the class, scored.
func (s *Snapshot) candidates(c *class, pod *podState) []candidate {
	out := c.scratch[:0]
	if c.storage != nil && s.inUse(c.storage.once) > 0 {
		return nil
	}
	s.full(c)
	for _, b := range c.list {
		if len(b.heap) > 0 && c.others(b.heap[0], nil) == nil {
			out = append(out, candidate{node: b.heap[0], count: len(b.heap), own: c.base[b.heap[0]]})
		}
	}
	for _, at := range slices.Sorted(maps.Keys(c.apart)) {
		if s.tryNode(c, pod, at) == nil {
			c.base[at], c.load[at] = c.score(s, at), int32(len(s.nodes[at].pods))
			out = append(out, candidate{node: at, count: 1, own: c.base[at]})
		}
	}
	c.rate(out)
	c.scratch = out
	return out
}

// rate scores the candidates: what depends on all nodes that fit is put into proportion to them.
func (c *class) rate(list []candidate) {
	weights := c.spreadWeights(list)
	most := candidate{taints: 0, preferred: 0, spread: 0, inter: math.MinInt64}
	least := candidate{spread: math.MaxInt64, inter: math.MaxInt64, near: math.MaxInt64}
	for k := range list {
		m := &list[k]
		m.taints, m.preferred = c.taints[m.node], c.preferred[m.node]
		for _, at := range c.inter.scores {
			if sl := c.slots[at]; sl.domain[m.node] >= 0 {
				m.inter += sl.counts[sl.domain[m.node]]
			}
		}
		for _, at := range c.near {
			if sl := c.slots[at]; sl.domain[m.node] >= 0 {
				m.near += sl.counts[sl.domain[m.node]]
			}
		}
		most.near, least.near = max(most.near, m.near), min(least.near, m.near)
		m.spread, m.ignored = c.rawSpread(m.node, weights)
		most.taints, most.preferred = max(most.taints, m.taints), max(most.preferred, m.preferred)
		most.inter, least.inter = max(most.inter, m.inter), min(least.inter, m.inter)
		if !m.ignored {
			most.spread, least.spread = max(most.spread, m.spread), min(least.spread, m.spread)
		}
	}
	for k := range list {
		m := &list[k]
		m.weighted = [len(proportioned)]int64{maxScore}
		if most.taints > 0 {
			m.weighted[0] = maxScore - maxScore*m.taints/most.taints
		}
		if most.preferred > 0 {
			m.weighted[1] = maxScore * m.preferred / most.preferred
		}
		switch {
		case len(c.soft) == 0 || m.ignored:
		case most.spread == 0:
			m.weighted[2] = maxScore
		default:
			m.weighted[2] = maxScore * (most.spread + least.spread - m.spread) / most.spread
		}
		if most.inter > least.inter {
			m.weighted[3] = int64(maxScore * (float64(m.inter-least.inter) / float64(most.inter-least.inter)))
		}
		if most.near > least.near {
			m.weighted[4] = maxScore * (m.near - least.near) / (most.near - least.near)
		}
		m.total = m.own
		for j, w := range c.weight.proportioned {
			m.total += w * m.weighted[j]
		}
	}
}

// proportioned are the plugins whose scores are put into proportion, in the order of candidate.weighted.
var proportioned = [5]string{taintToleration, nodeAffinity, podTopologySpread, interPodAffinity, networkDistance}

// unlabelled tells whether a node is not scored, since it lacks the label of a soft constraint.
func (c *class) unlabelled(i int32) bool {
	if !c.softAll {
		return false
	}
	for k := range c.soft {
		if c.slots[c.soft[k].slot].domain[i] < 0 {
			return true
		}
	}
	return false
}

// spreadWeights are the weights of the soft constraints: the logarithm of the number of domains that could take the pod, and two.
func (c *class) spreadWeights(list []candidate) []float64 {
	if len(c.soft) == 0 {
		return nil
	}
	c.weights = c.weights[:0]
	nodes := 0
	for k := range list {
		if !c.unlabelled(list[k].node) {
			nodes += list[k].count
		}
	}
	for k := range c.soft {
		t := &c.soft[k]
		size := nodes
		if sl := c.slots[t.slot]; sl.key != "" {
			size = c.domains(sl, list)
		}
		c.weights = append(c.weights, math.Log(float64(size+2)))
	}
	return c.weights
}

// domains counts the domains of a topology among the candidates; nodes without the label are one.
func (c *class) domains(sl *slot, list []candidate) int {
	if c.seen == nil {
		c.seen = map[int32]bool{}
	}
	clear(c.seen)
	for k := range list {
		at := list[k].node
		if c.unlabelled(at) {
			continue
		}
		if !sl.wide {
			c.seen[sl.domain[at]] = true
			continue
		}
		if !c.filled || c.of[at] == nil {
			c.seen[sl.domain[at]] = true
			continue
		}
		for _, i := range c.of[at].heap {
			c.seen[sl.domain[i]] = true
		}
	}
	return len(c.seen)
}

// rawSpread is PodTopologySpread's score of a node before it is put into proportion: fewer is better.
func (c *class) rawSpread(i int32, weights []float64) (int64, bool) {
	if len(weights) == 0 {
		return 0, false
	}
	if c.unlabelled(i) {
		return 0, true
	}
	var sum float64
	for k := range c.soft {
		t := &c.soft[k]
		if sl := c.slots[t.slot]; sl.domain[i] >= 0 {
			// The conversion keeps compilers from fusing the two, which would round differently on other machines.
			sum += float64(float64(sl.counts[sl.domain[i]])*weights[k]) + float64(t.maxSkew-1)
		}
	}
	return int64(math.Round(sum)), false
}

// best is the best of the candidates, -1 if there is none. Of those that score the same it is the node with the fewest pods, then one of the zone with
// the fewest pods of the owner, then the first in the order of ties.
func (s *Snapshot) best(c *class, list []candidate) int32 {
	best := -1
	for k := range list {
		if best < 0 || list[k].total > list[best].total || list[k].total == list[best].total && s.precedes(c, list[k].node, list[best].node) {
			best = k
		}
	}
	if best < 0 {
		return -1
	}
	return list[best].node
}
