package scheduler

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Schedule places the pods one after the other, in the order given, and binds each in the snapshot; those of a gang follow its first. Pods that only
// differ in name share their class, so that the cost of one more such pod does not grow with the number of nodes. There is one decision a pod.
func (s *Snapshot) Schedule(pods []*corev1.Pod) []Decision {
	out := make([]Decision, 0, len(pods))
	if !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Labels[LabelGang] != "" }) {
		for _, pod := range pods {
			out = append(out, s.schedule(pod))
		}
		return out
	}
	for _, g := range gangs(pods) {
		if g.least > 0 {
			out = append(out, s.scheduleGang(g)...)
		} else {
			out = append(out, s.schedule(g.pods[0]))
		}
	}
	return out
}

func (s *Snapshot) schedule(pod *corev1.Pod) Decision {
	c := s.classOf(pod)
	p := &podState{pod: pod, demand: c.demand, group: c.group}
	if at := s.find(c, p); at >= 0 {
		s.settleOn(p, at)
		return Decision{Pod: pod, Node: s.nodes[at].node.Name}
	}
	return s.withoutNode(c, p)
}

// find is the node that takes a pod, -1 if none does.
func (s *Snapshot) find(c *class, p *podState) int32 {
	switch {
	case c.all != nil:
		return -1
	case c.pinned:
		return s.pinnedNode(c, p)
	}
	return s.choose(c, p)
}

// settleOn binds a pod to a node.
func (s *Snapshot) settleOn(p *podState, at int32) {
	s.unnominate(p.pod)
	if p.pod.Spec.Resources != nil {
		p.demand = s.demandOf(p.pod, true)
	}
	s.put(at, p)
}

// choose picks the node of a pod that may be on any; -1 if none takes it. The node that others were deleted for comes first.
func (s *Snapshot) choose(c *class, p *podState) int32 {
	if name := p.pod.Status.NominatedNodeName; name != "" {
		if at, ok := s.byName[name]; ok && s.tryNode(c, p, at) == nil {
			return at
		}
	}
	if at, ok := s.search(c, p); ok {
		return at
	}
	return s.best(c, s.candidates(c, p))
}

// pinnedNode is the one node that the pod may be on, -1 if it does not take it.
func (s *Snapshot) pinnedNode(c *class, p *podState) int32 {
	at, ok := s.byName[PinnedTo(&p.pod.Spec)]
	if !ok || s.tryNode(c, p, at) != nil {
		return -1
	}
	return at
}

// tryNode applies every rule to one node, in kube-scheduler's order; nil if none refuses. Pods of no less priority that are nominated
// to the node must have room besides this one, whether they come or not.
func (s *Snapshot) tryNode(c *class, p *podState, at int32) *refusal {
	if c.static[at] != nil {
		return c.static[at]
	}
	return s.tryWith(c, p, at, nil)
}

// tryWith is tryNode for a node that is otherwise than the class's counts say: by h, if it is not nil.
func (s *Snapshot) tryWith(c *class, p *podState, at int32, h *shift) *refusal {
	n := s.nodes[at]
	coming := c.coming(n, p)
	if len(coming) == 0 {
		return s.apply(c, at, h)
	}
	var with *shift
	if c.dependent() {
		with = s.newShift(c)
		if h != nil {
			copy(with.deltas, h.deltas)
			with.claims = h.claims
		}
	}
	for _, q := range coming {
		n.pods = append(n.pods, q)
		n.count(q, 1)
		c.shift(s, with, at, q, 1)
	}
	r := s.apply(c, at, with)
	for _, q := range coming {
		n.count(q, -1)
	}
	n.pods = n.pods[:len(n.pods)-len(coming)]
	if r != nil {
		return r
	}
	return s.apply(c, at, h)
}

// apply applies the rules that are not about the node itself.
func (s *Snapshot) apply(c *class, at int32, h *shift) *refusal {
	n := s.nodes[at]
	for _, p := range c.ports {
		if n.conflicts(p) {
			return refusePorts
		}
	}
	if !n.fits(c.demand) {
		return s.shortRefusal(n, c.demand)
	}
	if c.storage != nil {
		if r := c.storage.refuse(s, at, h); r != nil {
			return r
		}
	}
	return c.others(at, h)
}

// yields tells whether a pod of the class has to leave room for one that is nominated to the node.
func (c *class) yields(n *nodeState) bool {
	for _, q := range n.nominated {
		if priorityOf(q.pod) >= c.priority {
			return true
		}
	}
	return false
}

// coming are the nominated pods for which this one has to leave room.
func (c *class) coming(n *nodeState, p *podState) (out []*podState) {
	for _, q := range n.nominated {
		if priorityOf(q.pod) >= c.priority && !samePod(q.pod, p.pod) {
			out = append(out, q)
		}
	}
	return out
}

func samePod(a, b *corev1.Pod) bool {
	return a.UID == b.UID && a.Name == b.Name && a.Namespace == b.Namespace
}

// newShift is no change, of a class.
func (s *Snapshot) newShift(c *class) *shift { return &shift{deltas: make([]int64, len(c.slots))} }

// shift adds to h what sign pods like q on the node would change for the class. It does nothing if h is nil.
func (c *class) shift(s *Snapshot, h *shift, at int32, q *podState, sign int64) {
	if h == nil {
		return
	}
	add := func(slot int, delta int64) {
		sl := c.slots[slot]
		if sl.domain[at] >= 0 && (sl.eligible == nil || sl.eligible[at]) {
			h.deltas[slot] += sign * delta
		}
	}
	for i := range c.hard {
		// Here kube-scheduler counts the pods that are terminating too (PodTopologySpread's AddPod and RemovePod).
		if k := &c.hard[i]; q.pod.Namespace == c.pod.Namespace && k.selector.Matches(q.group.labels) && c.labelled(at) {
			add(k.slot, 1)
		}
	}
	if c.storage != nil && (c.storage.disks || s.inUse(c.storage.once) > 0) {
		// Otherwise kube-scheduler leaves VolumeRestrictions out for the pod.
		h.claims += sign * c.storage.uses(q.pod)
	}
	idle := c.interIdle()
	for _, e := range c.effectsOf(s, q.group) {
		if !idle && !c.isHard(e.slot) {
			add(e.slot, e.delta)
		}
	}
}

// isHard tells whether a slot counts for a constraint that has to hold.
func (c *class) isHard(slot int) bool {
	return slices.ContainsFunc(c.hard, func(k constraint) bool { return k.slot == slot })
}

// labelled tells whether a node has the labels of all constraints that have to hold.
func (c *class) labelled(at int32) bool {
	for i := range c.hard {
		if c.slots[c.hard[i].slot].domain[at] < 0 {
			return false
		}
	}
	return true
}

// refusalOf is why a node does not take a pod, nil if it does.
func (s *Snapshot) refusalOf(c *class, p *podState, at int32) *refusal {
	switch {
	case c.all != nil:
		return c.all
	case c.pinned && s.nodes[at].node.Name != PinnedTo(&p.pod.Spec):
		return refuseElsewhere
	}
	return s.tryNode(c, p, at)
}

// message sums up refusals in kube-scheduler's words: each reason with the number of nodes, sorted as text.
func message(nodes int, counts map[string]int) string {
	parts := make([]string, 0, len(counts))
	for r, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, r))
	}
	sort.Strings(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}
