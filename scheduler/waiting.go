package scheduler

import (
	"cmp"
	"slices"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// waiting is the pods that wait for a node, of a snapshot that is kept, so that a change costs a look at those that it may help and not at all of them. It
// is no memory that decisions hang on: those that are left out would be refused as they were.
type waiting struct {
	pods map[types.NamespacedName]*waiter
	// due are the pods to be tried, in the order of the queue: of a class that may find a node now, one.
	due    *btree.BTreeG[*waiter]
	last   *waiter        // the one tried last in this step
	again  []*waitingGang // to be tried in the next step
	step   int            // counts them
	heard  int            // how much of the log is taken in
	gangs  map[gangKey]*waitingGang
	pinned map[string]map[*waiter]bool // by the one node that they may be on

	refused   map[uint64][]*refused
	alone     map[*refused]bool // those that only their node's own state refuses
	least     *least            // of alone; nil if it is not known
	dependent map[*refused]bool // those that pods of other nodes, or volumes, may matter to
	claims    map[object.Key]map[*refused]bool
	woken     map[*refused]bool
	related   map[*group][]*refused // of dependent, what a group's pods may matter to
	before    map[int32]*nodeState  // nodes as they were when last looked at, if dependent are to know
	dirty     map[int32]bool

	stale   *btree.BTreeG[*refused] // all but those of pinned pods, the one tried longest ago first
	stirs   int                     // counts the steps before which something happened that may change why pods wait
	stirred bool                    // it did, since the last step
	classes int                     // how many there have been
}

// waiter is a pod that waits.
type waiter struct {
	queued
	name types.NamespacedName
	pin  string // the one node that it may be on, if its class is of such pods
	// own tells that it is to be tried whether or not its class is; restless that the last try was not the last word.
	own, restless bool
	class         *refused // nil for one that was not tried yet
	gang          *waitingGang
}

// waitingGang is the pods of a gang that wait. They are tried together, at the place of the first.
type waitingGang struct {
	gangKey
	members *btree.BTreeG[*waiter]
	step    int // the one that it was tried in last
}

func newWaiting() *waiting {
	return &waiting{pods: map[types.NamespacedName]*waiter{}, due: waiters(), gangs: map[gangKey]*waitingGang{}, pinned: map[string]map[*waiter]bool{},
		refused: map[uint64][]*refused{}, alone: map[*refused]bool{}, dependent: map[*refused]bool{}, claims: map[object.Key]map[*refused]bool{}, woken: map[*refused]bool{},
		related: map[*group][]*refused{}, before: map[int32]*nodeState{}, dirty: map[int32]bool{},
		stale: btree.NewG(8, func(a, b *refused) bool {
			return cmp.Or(cmp.Compare(a.tried, b.tried), cmp.Compare(a.number, b.number)) < 0
		})}
}

func waiters() *btree.BTreeG[*waiter] {
	return btree.NewG(8, func(a, b *waiter) bool { return a.compare(&b.queued) < 0 })
}

// ScheduleWaiting tries the pods that wait for a node, in the order of kube-scheduler's queue, and binds each in the snapshot. Of a kept snapshot it may
// leave out pods that no node takes, if nothing has happened since they were tried last that could help them. Also tried are those that also names, if
// it is not nil.
func (s *Snapshot) ScheduleWaiting(also func(*corev1.Pod) bool) []Decision {
	if s.keeping == nil {
		return s.Schedule(queue(s.src, s.profiles))
	}
	w := s.waiting
	s.takeIn()
	w.step++
	if also != nil {
		for _, p := range w.pods {
			if also(p.pod) {
				s.try(p)
			}
		}
	}
	for r := range w.dependent {
		if r.always {
			s.wake(r)
		}
	}
	var out []Decision
	for {
		p := w.next()
		if p == nil {
			break
		}
		w.due.Delete(p)
		w.last = p
		out = append(out, s.tryWaiter(p)...)
		s.hear()
	}
	w.last = nil
	for c := range w.woken {
		s.push(c)
	}
	for _, g := range w.again {
		s.tryGang(g)
	}
	w.again = w.again[:0]
	w.stirred = false // what the step itself did and took back is no news
	return out
}

// next is the first pod that is due behind the last one.
func (w *waiting) next() (out *waiter) {
	if w.last == nil {
		out, _ = w.due.Min()
		return out
	}
	w.due.AscendGreaterOrEqual(w.last, func(p *waiter) bool {
		if p == w.last {
			return true
		}
		out = p
		return false
	})
	return out
}

// try makes a pod due, whatever its class.
func (s *Snapshot) try(p *waiter) {
	if p.gang != nil {
		s.tryGang(p.gang)
		return
	}
	p.own = true
	s.waiting.due.ReplaceOrInsert(p)
}

// tryGang makes a gang due: in the next step if it had its turn in this one.
func (s *Snapshot) tryGang(g *waitingGang) {
	if w := s.waiting; w.last != nil && g.step == w.step {
		if !slices.Contains(w.again, g) {
			w.again = append(w.again, g)
		}
		return
	}
	if first, ok := g.members.Min(); ok {
		first.own = true
		s.waiting.due.ReplaceOrInsert(first)
	}
}

// wake makes the pods of a class due, one after the other.
func (s *Snapshot) wake(c *refused) {
	c.rooms = nil
	s.rouse(c)
}

func (s *Snapshot) rouse(c *refused) {
	switch {
	case c.gang != nil:
		s.tryGang(c.gang)
	case c.pinned:
		c.pods.Ascend(func(p *waiter) bool { s.try(p); return true })
	case !s.waiting.woken[c]:
		s.waiting.woken[c] = true
		s.push(c)
	}
}

// push makes the next pod of a class due that is woken: the first behind the one tried last.
func (s *Snapshot) push(c *refused) {
	w := s.waiting
	if w.last == nil {
		if p, ok := c.pods.Min(); ok {
			w.due.ReplaceOrInsert(p)
		}
		return
	}
	c.pods.AscendGreaterOrEqual(w.last, func(p *waiter) bool {
		if p == w.last {
			return true
		}
		w.due.ReplaceOrInsert(p)
		return false
	})
}

// tryWaiter tries one pod, or its gang.
func (s *Snapshot) tryWaiter(p *waiter) []Decision {
	w := s.waiting
	switch {
	case p.gang != nil:
		return s.tryWaitingGang(p.gang)
	case !p.own && (p.class == nil || !w.woken[p.class]):
		return nil // one of its class was refused meanwhile
	case !p.own && !s.stillHelped(p.class):
		delete(w.woken, p.class)
		return nil
	}
	was := p.class
	p.own, p.restless = false, false
	d := s.schedule(p.pod)
	s.moved = append(s.moved, p.name)
	if d.Node != "" {
		s.forget(p)
	} else {
		nominated := p.pod.Status.NominatedNodeName != ""
		p.restless = d.Nominated != "" || d.Unnominate
		s.refuse(p, s.classOf(p.pod))
		if !p.restless && !nominated {
			w.heed(s, p.class)
			d.Alike = w.sayOther(p, d.Message)
		}
	}
	if was != nil && w.woken[was] {
		s.push(was)
	}
	return []Decision{d}
}

// heed takes note that no node takes a class, as things are.
func (w *waiting) heed(s *Snapshot, c *refused) {
	s.hear()
	delete(w.woken, c)
}

// tryWaitingGang tries all pods of a gang that wait.
func (s *Snapshot) tryWaitingGang(g *waitingGang) []Decision {
	w := s.waiting
	g.step = w.step
	one := &gang{gangKey: g.gangKey}
	var members []*waiter
	nominated := false
	g.members.Ascend(func(p *waiter) bool {
		members = append(members, p)
		one.pods = append(one.pods, p.pod)
		one.least = max(one.least, gangOf(p.pod).least)
		p.own, p.restless = false, false
		_, there := s.orders[p.name]
		nominated = nominated || there
		return true
	})
	out := s.scheduleGang(one)
	placed := false
	for i, p := range members {
		s.moved = append(s.moved, p.name)
		if out[i].Node != "" {
			s.forget(p)
			placed = true
			continue
		}
		p.restless = out[i].Unnominate
		s.refuse(p, s.classOf(p.pod))
	}
	if !placed && !nominated {
		w.heard = len(s.log) // what was placed was taken back: all is as before
	}
	if placed && g.members.Len() > 0 {
		s.tryGang(g)
	}
	return out
}

// await takes in a pod that may wait, may wait no more, or may be another version.
func (s *Snapshot) await(name types.NamespacedName, pod *corev1.Pod) {
	w := s.waiting
	p, had := w.pods[name]
	waits := pod != nil && s.profiles.waits(pod)
	switch {
	case !had && !waits:
		return
	case had && waits && p.sameFor(pod):
		if p.pod = pod; p.restless || !Told(pod) {
			s.try(p)
		}
		return
	case had:
		s.forget(p)
	}
	if !waits {
		return
	}
	p = &waiter{queued: newQueued(pod), name: name}
	w.pods[name] = p
	if g := gangOf(pod); g != nil {
		if p.gang = w.gangs[g.gangKey]; p.gang == nil {
			p.gang = &waitingGang{gangKey: g.gangKey, members: waiters()}
			w.gangs[g.gangKey] = p.gang
		}
		if first, ok := p.gang.members.Min(); ok {
			w.due.Delete(first) // another one may be the first now
		}
		p.gang.members.ReplaceOrInsert(p)
	}
	if s.profileOf(pod).sharesPin(pod) {
		p.pin = PinnedTo(&pod.Spec)
		if w.pinned[p.pin] == nil {
			w.pinned[p.pin] = map[*waiter]bool{}
		}
		w.pinned[p.pin][p] = true
	}
	s.try(p)
}

// sameFor tells whether another version of a pod is the same to the scheduler.
func (p *waiter) sameFor(pod *corev1.Pod) bool {
	a := p.pod
	if a == pod {
		return true
	}
	q := newQueued(pod)
	return a.UID == pod.UID && a.Status.NominatedNodeName == pod.Status.NominatedNodeName && p.compare(&q) == 0 && alike(a, pod)
}

// forget takes a pod away.
func (s *Snapshot) forget(p *waiter) {
	w := s.waiting
	delete(w.pods, p.name)
	w.due.Delete(p)
	s.leave(p)
	if g := p.gang; g != nil {
		if g.members.Delete(p); g.members.Len() == 0 {
			delete(w.gangs, g.gangKey)
		} else if w.last == nil {
			s.tryGang(g)
		}
	}
	if p.pin != "" {
		if delete(w.pinned[p.pin], p); len(w.pinned[p.pin]) == 0 {
			delete(w.pinned, p.pin)
		}
	}
}

// awaitAll reads the pods that wait anew.
func (s *Snapshot) awaitAll() {
	s.waiting = newWaiting()
	s.waiting.heard = len(s.log)
	for pod := range s.src.Unbound() {
		s.await(nameOf(pod), pod)
	}
}

// adopt takes the pods that wait over from another snapshot of the same view, with what they were refused by.
func (s *Snapshot) adopt(o *Snapshot) {
	w := o.waiting
	clear(w.related)
	clear(w.before)
	clear(w.dirty)
	w.heard = len(s.log)
	s.waiting = w
	s.surely()
	for name := range o.namespaces {
		s.namespace(name) // that its labels matter must be known
	}
	for r := range w.dependent {
		s.groups.keys.readTerms(&r.inter.terms)
		s.groups.keys.readConstraints(r.class)
	}
	s.regroup()
}
