package scheduler

// interRules are a class's rules about other pods (InterPodAffinity), by the slots that count them.
type interRules struct {
	terms    terms
	affinity []int // slots, one a term; terms of one topology share theirs
	anti     []int
	existing map[string]int // slots by topology: pods on nodes whose anti-affinity means the class
	score    map[string]int // slots by topology: what the preferences of both sides add up to
	order    []int          // existing's slots, in the order made
	scores   []int
	selfOK   bool // the class meets its own affinity
	others   bool // preferences of pods that are there count
}

// addInter reads the pods' terms and makes their slots.
func (s *Snapshot) addInter(c *class) {
	r := &c.inter
	r.terms = c.group.terms
	r.existing, r.score = map[string]int{}, map[string]int{}
	r.affinity = c.slotsOf(s, r.terms.affinity)
	r.anti = c.slotsOf(s, r.terms.anti)
	r.others = !c.profile.IgnorePreferredTermsOfExistingPods || len(r.terms.preferred) > 0
	r.selfOK = r.all(s, c.group)
	for i := range r.terms.preferred {
		c.scoreSlot(s, r.terms.preferred[i].key)
	}
	for _, g := range s.groups.all {
		c.meet(s, g)
	}
}

func (c *class) slotsOf(s *Snapshot, list []term) (out []int) {
	byKey := map[string]int{}
	for i := range list {
		at, ok := byKey[list[i].key]
		if !ok {
			at = c.addSlot(newSlot(s.topology(list[i].key), nil))
			byKey[list[i].key] = at
		}
		out = append(out, at)
	}
	return out
}

func (c *class) scoreSlot(s *Snapshot, key string) int {
	at, ok := c.inter.score[key]
	if !ok {
		at = c.addSlot(newSlot(s.topology(key), nil))
		c.inter.score[key] = at
		c.inter.scores = append(c.inter.scores, at)
	}
	return at
}

// meet makes the slots that the terms of a group need, as far as they mean the class.
func (c *class) meet(s *Snapshot, g *group) {
	if g.terms.empty() {
		return
	}
	ns := s.namespace(c.pod.Namespace)
	for i := range g.terms.anti {
		t := &g.terms.anti[i]
		if _, ok := c.inter.existing[t.key]; !ok && t.means(c.pod.Namespace, ns, c.pod.Labels) {
			at := c.addSlot(newSlot(s.topology(t.key), nil))
			c.inter.existing[t.key] = at
			c.inter.order = append(c.inter.order, at)
		}
	}
	if !c.inter.others {
		return
	}
	for _, list := range [][]term{g.terms.affinity, g.terms.preferred} {
		for i := range list {
			if list[i].means(c.pod.Namespace, ns, c.pod.Labels) {
				c.scoreSlot(s, list[i].key)
			}
		}
	}
}

// all tells whether a group's pods meet every required term.
func (r *interRules) all(s *Snapshot, g *group) bool {
	if len(r.terms.affinity) == 0 {
		return false
	}
	ns := s.namespace(g.namespace)
	for i := range r.terms.affinity {
		if !r.terms.affinity[i].selects(g.namespace, ns, g.labels) {
			return false
		}
	}
	return true
}

// interEffects appends what a pod of the group adds to the slots of these rules.
func (c *class) interEffects(s *Snapshot, g *group, out []effect) []effect {
	r := &c.inter
	if r.terms.empty() && g.terms.empty() {
		return out
	}
	theirs := s.namespace(g.namespace)
	if r.all(s, g) {
		for _, at := range r.affinity {
			out = append(out, effect{at, 1})
		}
	}
	for i := range r.terms.anti {
		if r.terms.anti[i].selects(g.namespace, theirs, g.labels) {
			out = append(out, effect{r.anti[i], 1})
		}
	}
	for i := range r.terms.preferred {
		if t := &r.terms.preferred[i]; t.selects(g.namespace, theirs, g.labels) {
			out = append(out, effect{r.score[t.key], t.weight})
		}
	}
	if g.terms.empty() {
		return out
	}
	ours := s.namespace(c.pod.Namespace)
	means := func(t *term, slots map[string]int, delta int64) {
		if delta == 0 || !t.means(c.pod.Namespace, ours, c.pod.Labels) {
			return
		}
		at, ok := slots[t.key]
		if !ok {
			c.stale = true // a group that came later needs a new slot
			return
		}
		out = append(out, effect{at, delta})
	}
	for i := range g.terms.anti {
		means(&g.terms.anti[i], r.existing, 1)
	}
	if !r.others {
		return out
	}
	for i := range g.terms.affinity {
		means(&g.terms.affinity[i], r.score, c.profile.HardPodAffinityWeight)
	}
	for i := range g.terms.preferred {
		means(&g.terms.preferred[i], r.score, g.terms.preferred[i].weight)
	}
	return out
}

// interIdle tells whether nothing that runs, nor the class, asks anything of other pods' places that concerns the class. Then, as in
// kube-scheduler, which leaves InterPodAffinity out for the pod, those that are still to come ask nothing either.
func (c *class) interIdle() bool {
	if len(c.inter.affinity)+len(c.inter.anti) > 0 {
		return false
	}
	for _, at := range c.inter.order {
		if c.slots[at].total > 0 {
			return false
		}
	}
	return true
}
