package scheduler

import (
	"maps"
	"math"
	"slices"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// refused is a class of pods that no node took when it was tried last: what it asks for, without a row for any node, and its pods.
type refused struct {
	*class
	hash uint64
	pods *btree.BTreeG[*waiter]
	gang *waitingGang
	// topologies are the keys by which its constraints and terms part the nodes.
	topologies []string
	claims     []object.Key
	volumes    bool // it has volumes that matter
	always     bool // what its constraints select is told by objects that nobody names when they change
	// rooms are the nodes that it was woken for, nil if it was for something else.
	rooms []int32
	// number and tried are its place in stale; told are the reasons that all its pods say, "" if that is not known.
	number, tried int
	told          string
}

// alike tells whether two pods are the same to all rules, by all their labels.
func alike(a, b *corev1.Pod) bool {
	return priorityOf(a) == priorityOf(b) && a.Spec.SchedulerName == b.Spec.SchedulerName && a.Namespace == b.Namespace && ownerOf(a) == ownerOf(b) &&
		maps.Equal(a.Labels, b.Labels) && sameRequests(&a.Spec, &b.Spec) && sameShape(&a.Spec, &b.Spec, false)
}

// refuse puts a pod that no node took among those of its class.
func (s *Snapshot) refuse(p *waiter, c *class) {
	w, r := s.waiting, p.class
	if r == nil {
		h := hash(p.pod.Namespace) ^ hash(string(c.owner)) ^ mix(uint64(priorityOf(p.pod)))
		for k, v := range p.pod.Labels {
			h ^= mix(hash(k) + 3*hash(v))
		}
		h ^= mix(uint64(c.requests.cpu)) ^ mix(uint64(c.requests.memory)<<1)
		i := slices.IndexFunc(w.refused[h], func(r *refused) bool { return r.gang == p.gang && alike(r.pod, p.pod) })
		if i >= 0 {
			r = w.refused[h][i]
		} else {
			w.classes++
			r = &refused{hash: h, pods: waiters(), gang: p.gang, number: w.classes}
			w.refused[h] = append(w.refused[h], r)
		}
		p.class = r
		r.pods.ReplaceOrInsert(p)
	}
	w.unlist(r)
	r.take(s, p.pod, c)
	w.list(r)
	w.isTried(r)
}

// take notes what the class asks for.
func (r *refused) take(s *Snapshot, pod *corev1.Pod, c *class) {
	r.class = &class{demand: c.demand, pod: pod, shape: &shape{profile: c.profile, priority: c.priority, pinned: c.pinned, rules: c.rules, all: c.all, hard: c.hard,
		inter: interRules{terms: c.inter.terms, affinity: c.inter.affinity, anti: c.inter.anti, order: c.inter.order}}}
	r.volumes = slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return !indifferent(v) && v.Image == nil })
	r.always = c.spread != nil && len(c.hard) > 0
	r.topologies, r.claims = r.topologies[:0], r.claims[:0]
	for i := range c.hard {
		r.topologies = append(r.topologies, c.hard[i].key)
	}
	for _, list := range [][]term{c.inter.terms.affinity, c.inter.terms.anti} {
		for i := range list {
			r.topologies = append(r.topologies, list[i].key)
		}
	}
	for key := range c.inter.existing {
		r.topologies = append(r.topologies, key)
	}
	for i := range pod.Spec.Volumes {
		if name := claimName(pod, &pod.Spec.Volumes[i]); name != "" {
			r.claims = append(r.claims, claimKey(pod.Namespace, name))
		}
	}
}

// depends tells whether other nodes' pods, or volumes, may matter to the class.
func (r *refused) depends() bool { return r.volumes || r.all == nil && r.dependent() }

func (w *waiting) list(r *refused) {
	switch {
	case r.depends():
		w.dependent[r] = true
		clear(w.related)
	case r.all == nil && !r.pinned:
		w.alone[r] = true
		w.least = nil
	}
	for _, k := range r.claims {
		if w.claims[k] == nil {
			w.claims[k] = map[*refused]bool{}
		}
		w.claims[k][r] = true
	}
}

func (w *waiting) unlist(r *refused) {
	if r.class == nil {
		return
	}
	if w.alone[r] {
		delete(w.alone, r)
		w.least = nil
	}
	if w.dependent[r] {
		delete(w.dependent, r)
		clear(w.related)
	}
	for _, k := range r.claims {
		if delete(w.claims[k], r); len(w.claims[k]) == 0 {
			delete(w.claims, k)
		}
	}
}

// leave takes a pod out of its class.
func (s *Snapshot) leave(p *waiter) {
	w, r := s.waiting, p.class
	if r == nil {
		return
	}
	p.class = nil
	if r.pods.Delete(p); r.pods.Len() > 0 {
		if w.woken[r] {
			s.push(r)
		}
		return
	}
	w.unlist(r)
	w.stale.Delete(r)
	delete(w.woken, r)
	if w.refused[r.hash] = slices.DeleteFunc(w.refused[r.hash], func(o *refused) bool { return o == r }); len(w.refused[r.hash]) == 0 {
		delete(w.refused, r.hash)
	}
}

// hear takes in what happened to nodes and pods since the last time, and makes those due that it may help.
func (s *Snapshot) hear() { s.hearWithout(-1) }

// hearWithout is hear for when a node is about to go.
func (s *Snapshot) hearWithout(gone int32) {
	w := s.waiting
	if len(w.pods) == 0 {
		w.heard = len(s.log)
		clear(w.dirty)
		clear(w.before)
		return
	}
	for ; w.heard < len(s.log); w.heard++ {
		ch := s.log[w.heard]
		w.stirred = w.stirred || ch.sign < 0
		s.nodeStirred(ch.node)
		if ch.group != nil && ch.sign != 0 {
			for _, r := range s.concerned(ch.group) {
				s.wake(r)
			}
		}
		switch {
		case ch.same:
			if ch.sign > 0 && ch.group != nil && ch.group.gang != nil {
				s.tryGangs() // it may have one more
			}
		case ch.sign > 0:
			s.tryGangs() // the room that is left may suit a gang better: it is taken as it comes
		case ch.sign < 0 || ch.group == nil:
			w.dirty[ch.node] = true
		}
	}
	for at := range w.dirty {
		if at != gone {
			s.look(at)
		}
	}
	clear(w.dirty)
	clear(w.before)
}

// nodeStirred makes those due that wait for one node.
func (s *Snapshot) nodeStirred(at int32) {
	w, n := s.waiting, s.nodes[at]
	for _, q := range n.nominated {
		if p := w.pods[nameOf(q.pod)]; p != nil {
			s.try(p)
		}
	}
	if len(w.pinned) > 0 {
		for p := range w.pinned[n.node.Name] {
			s.try(p)
		}
	}
}

func (s *Snapshot) tryGangs() {
	for _, g := range s.waiting.gangs {
		s.tryGang(g)
	}
}

// concerned are the classes to which it matters where pods of a group are.
func (s *Snapshot) concerned(g *group) []*refused {
	w := s.waiting
	if len(w.dependent) == 0 {
		return nil
	}
	list, ok := w.related[g]
	if !ok {
		for r := range w.dependent {
			if r.all == nil && s.concerns(r, g) {
				list = append(list, r)
			}
		}
		w.related[g] = list
	}
	return list
}

// concerns tells whether it matters to a class where pods of a group are.
func (s *Snapshot) concerns(r *refused, g *group) bool {
	for i := range r.hard {
		if r.pod.Namespace == g.namespace && r.hard[i].selector.Matches(g.labels) {
			return true
		}
	}
	if r.inter.terms.empty() && len(g.terms.anti) == 0 {
		return false
	}
	theirs, ours := s.namespace(g.namespace), s.namespace(r.pod.Namespace)
	for _, list := range [][]term{r.inter.terms.affinity, r.inter.terms.anti} {
		for i := range list {
			if list[i].selects(g.namespace, theirs, g.labels) {
				return true
			}
		}
	}
	return slices.ContainsFunc(g.terms.anti, func(t term) bool { return t.means(r.pod.Namespace, ours, r.pod.Labels) })
}

// look wakes the classes that a node may have room for now.
func (s *Snapshot) look(at int32) {
	w, n := s.waiting, s.nodes[at]
	now := newVacancies(n)
	if len(w.alone) > 0 && w.leastAlone().mayFit(now) {
		for r := range w.alone {
			if now.takes(r) {
				s.wakeFor(r, at)
			}
		}
	}
	if len(w.dependent) == 0 {
		return
	}
	was := w.before[at]
	var before *vacancies
	if was != nil && len(was.nominated) == 0 { // room that is held for others may have been what it lacked
		before = newVacancies(was)
	}
	for r := range w.dependent {
		if r.all != nil || r.pinned || !now.takes(r) {
			continue
		}
		// If it had the room before, something else refused it, which is none of this node's room: but for a gang, of which each has room alone.
		if r.volumes || r.gang != nil || before == nil || !before.takes(r) {
			s.wakeFor(r, at)
		}
	}
}

// least is what classes ask for at least, and their highest priority.
type least struct {
	cpu, memory int64
	priority    int32
}

func (w *waiting) leastAlone() *least {
	if w.least != nil {
		return w.least
	}
	out := &least{cpu: math.MaxInt64, memory: math.MaxInt64, priority: math.MinInt32}
	for r := range w.alone {
		out.cpu, out.memory, out.priority = min(out.cpu, r.requests.cpu), min(out.memory, r.requests.memory), max(out.priority, r.priority)
	}
	w.least = out
	return out
}

// mayFit is false if a node has too little for each of the classes, and none of its pods may have to go for one.
func (l *least) mayFit(v *vacancies) bool {
	n := v.n
	if len(n.pods) > 0 && v.lowest < l.priority {
		return true
	}
	lacks := func(asked, free int64) bool { return asked > 0 && asked > free }
	return int64(len(n.pods)) < n.maxPods && !lacks(l.cpu, n.allocatable.cpu-n.used.cpu) && !lacks(l.memory, n.allocatable.memory-n.used.memory)
}

// wakeFor is wake for a node that has room. When the class has its turn others may have taken it.
func (s *Snapshot) wakeFor(r *refused, at int32) {
	switch {
	case !s.waiting.woken[r]:
		r.rooms = append(r.rooms[:0], at)
		s.rouse(r)
	case r.rooms != nil:
		r.rooms = append(r.rooms, at)
	}
}

// stillHelped tells whether what a class was woken for is still there.
func (s *Snapshot) stillHelped(r *refused) bool {
	return r.rooms == nil || slices.ContainsFunc(r.rooms, func(at int32) bool { return newVacancies(s.nodes[at]).takes(r) })
}

// surely has the classes that were woken for nodes tried in any case, since nodes get other numbers.
func (s *Snapshot) surely() {
	for r := range s.waiting.woken {
		r.rooms = nil
	}
}

// vacancies is the room of a node, as pods of each priority see it: those of lower priority may have to go.
type vacancies struct {
	n      *nodeState
	lowest int32 // of its pods
	by     map[int32]*nodeState
}

func newVacancies(n *nodeState) *vacancies {
	v := &vacancies{n: n}
	for i, p := range n.pods {
		if k := priorityOf(p.pod); i == 0 || k < v.lowest {
			v.lowest = k
		}
	}
	return v
}

// takes tells whether the node would take a pod of the class, if pods of lower priority went and no rule about other nodes spoke against it.
func (v *vacancies) takes(r *refused) bool {
	n := v.n
	if len(n.pods) > 0 && v.lowest < r.priority && !never(&r.pod.Spec) {
		n = v.without(r.priority)
	}
	return n.fits(r.demand) && r.rules.refuse(n.node) == nil && (len(r.profile.own) == 0 || r.foreign(n.node) == nil)
}

// without is the node without its pods of a lower priority.
func (v *vacancies) without(priority int32) *nodeState {
	if out := v.by[priority]; out != nil {
		return out
	}
	out := &nodeState{node: v.n.node, allocatable: v.n.allocatable, maxPods: v.n.maxPods}
	for _, q := range v.n.pods {
		if priorityOf(q.pod) >= priority {
			out.pods = append(out.pods, q)
			out.count(q, 1)
		}
	}
	if v.by == nil {
		v.by = map[int32]*nodeState{}
	}
	v.by[priority] = out
	return out
}

// remember keeps how a node is before it changes or a pod leaves it, for classes that are refused though it has room.
func (s *Snapshot) remember(at int32) {
	if s.keeping == nil || len(s.waiting.dependent) == 0 || s.waiting.before[at] != nil {
		return
	}
	n := s.nodes[at]
	was := &nodeState{node: n.node, allocatable: n.allocatable, maxPods: n.maxPods, nominated: slices.Clone(n.nominated), pods: slices.Clone(n.pods)}
	for _, q := range was.pods {
		was.count(q, 1)
	}
	s.waiting.before[at] = was
}

// nodeChanged makes those due that a node's coming, going or change may help. old or now is nil for one that was not there, or is no longer; then at
// is no number.
func (s *Snapshot) nodeChanged(old, now *corev1.Node, at int32) {
	w := s.waiting
	w.stirred = true
	s.tryGangs()
	for r := range w.dependent {
		for _, key := range r.topologies {
			a, was := label(old, key)
			b, is := label(now, key)
			if len(r.hard) > 0 && (was || is) || old != nil && now != nil && (was != is || a != b) {
				s.wake(r)
				break
			}
		}
	}
	if now == nil {
		return
	}
	s.nodeStirred(at)
	if old == nil {
		w.before[at] = &nodeState{node: now} // it took nothing
	}
	w.dirty[at] = true
}

func label(n *corev1.Node, key string) (string, bool) {
	if n == nil {
		return "", false
	}
	v, ok := n.Labels[key]
	return v, ok
}

// claimsStirred makes those due that use a claim of a pod which came to a node or left it.
func (s *Snapshot) claimsStirred(pod *corev1.Pod) {
	if s.keeping == nil || len(s.waiting.claims) == 0 {
		return
	}
	for i := range pod.Spec.Volumes {
		if name := claimName(pod, &pod.Spec.Volumes[i]); name != "" {
			s.wakeAll(s.waiting.claims[claimKey(pod.Namespace, name)])
		}
	}
}

// storageChanged makes those due that a claim, a volume, or another object of storage may help.
func (s *Snapshot) storageChanged(k object.Key) {
	w := s.waiting
	w.stirred = true
	if len(w.dependent) == 0 {
		return
	}
	switch k.Resource {
	case "persistentvolumeclaims":
		s.wakeAll(w.claims[k])
		return
	case "persistentvolumes":
		pv := s.volume(k.Name)
		if pv == nil {
			return
		}
		if ref := pv.Spec.ClaimRef; ref != nil {
			s.wakeAll(w.claims[claimKey(ref.Namespace, ref.Name)])
			return
		}
	}
	for r := range w.dependent {
		if r.volumes {
			s.wake(r)
		}
	}
}

func (s *Snapshot) wakeAll(list map[*refused]bool) {
	for r := range list {
		s.wake(r)
	}
}
