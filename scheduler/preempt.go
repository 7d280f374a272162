package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// What preemption says of nodes where it would not help.
const unhelpful = "Preemption is not helpful for scheduling"

var refuseNoVictims = &refusal{"", []string{"No preemption victims found for incoming pod"}, true}

// failure is why no node takes the pods of a class, and what would help. It is kept between pods and mended where nodes changed.
type failure struct {
	at       int        // the length of the log that it is right for
	asker    *podState  // any pod of the class
	refusals []*refusal // by node
	counts   map[string]int
	rows     []*eviction // by node; nil for one that was not tried
	text     string      // what is said of a pod that nothing helps; empty if that is not known
	budgets  int         // the version of the budgets
	evictions
}

// eviction is what would have to go from a node for a pod; why says that nothing helps.
type eviction struct {
	victims    []*podState // the most important first
	violations int         // victims that a PodDisruptionBudget protects
	top        int32       // the highest priority
	sum        int64
	earliest   int64 // when the first of those with the highest priority started
	why        *refusal
}

// noVictims is that of a node on which all pods are as important.
var noVictims = &eviction{why: refuseNoVictims}

// budget is a PodDisruptionBudget.
type budget struct {
	*policyv1.PodDisruptionBudget
	selector labels.Selector
	allowed  int32
}

// withoutNode says why a pod has no node, and for which it would help to delete others.
func (s *Snapshot) withoutNode(c *class, p *podState) Decision {
	d := Decision{Pod: p.pod}
	n := len(s.nodes)
	if n == 0 {
		d.Message, d.Unnominate = "no nodes available to schedule pods", p.pod.Status.NominatedNodeName != ""
		return d
	}
	var own *refusal // of the node that the pod is nominated to
	at, nominated := s.byName[p.pod.Status.NominatedNodeName]
	switch {
	case c.all != nil:
		d.Message = fmt.Sprintf("0/%d nodes are available: %s.", n, strings.Join(c.all.reasons, ", "))
		own = c.all
	case c.pinned:
		d.Message = s.pinnedMessage(p, s.pinnedRefusal(c, p))
		if nominated {
			own = s.refusalOf(c, p, at)
		}
	default:
		f := s.failed(c)
		if f.text != "" && !nominated {
			d.Message, d.Unnominate = f.text, p.pod.Status.NominatedNodeName != ""
			return d
		}
		counts := f.counts
		if nominated {
			own = s.tryNode(c, p, at)
			counts = exchange(counts, c.failure.refusals[at], own)
		}
		d.Message = message(n, counts)
	}
	if text := s.ineligible(c, p, own); text != "" {
		d.Message += " preemption: " + text
		return d
	}
	target, counts := s.preempt(c, p)
	if target < 0 {
		d.Message += " preemption: " + message(n, counts)
		if c.failure != nil && !nominated {
			c.failure.text = d.Message
		}
		d.Unnominate = p.pod.Status.NominatedNodeName != ""
		return d
	}
	s.evict(c, p, target, &d)
	return d
}

// pinnedRefusal is that of the one node that the pod may be on, nil if there is no such node.
func (s *Snapshot) pinnedRefusal(c *class, p *podState) *refusal {
	at, ok := s.byName[PinnedTo(&p.pod.Spec)]
	if !ok {
		return nil
	}
	return s.tryNode(c, p, at)
}

func (s *Snapshot) pinnedMessage(p *podState, own *refusal) string {
	counts := map[string]int{}
	others := len(s.nodes)
	if own != nil {
		others--
		for _, r := range own.reasons {
			counts[r]++
		}
	}
	if others > 0 {
		counts[refuseElsewhere.reasons[0]] += others
	}
	return message(len(s.nodes), counts)
}

// exchange counts one node's reasons anew.
func exchange(counts map[string]int, was, is *refusal) map[string]int {
	out := map[string]int{}
	for r, n := range counts {
		out[r] = n
	}
	if was != nil {
		for _, r := range was.reasons {
			if out[r]--; out[r] == 0 {
				delete(out, r)
			}
		}
	}
	if is != nil {
		for _, r := range is.reasons {
			out[r]++
		}
	}
	return out
}

// ineligible tells why a pod may not have others deleted; empty if it may. own is the refusal of the node that it is nominated to.
func (s *Snapshot) ineligible(c *class, p *podState, own *refusal) string {
	if never(&p.pod.Spec) {
		return "not eligible due to preemptionPolicy=Never."
	}
	at, ok := s.byName[p.pod.Status.NominatedNodeName]
	if !ok || own != nil && own.unresolvable {
		return ""
	}
	for _, q := range s.nodes[at].pods {
		if priorityOf(q.pod) < c.priority && goesForAnother(q.pod) {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

// goesForAnother tells whether a pod is terminating because of a preemption.
func goesForAnother(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	for _, k := range pod.Status.Conditions {
		if k.Type == corev1.DisruptionTarget {
			return k.Status == corev1.ConditionTrue && k.Reason == corev1.PodReasonPreemptionByScheduler
		}
	}
	return false
}

// dependent tells whether what one node says of the class depends on pods of other nodes.
func (c *class) dependent() bool {
	return len(c.hard)+len(c.inter.affinity)+len(c.inter.anti)+len(c.inter.order) > 0 || c.storage != nil
}

// failed brings the class's failure up to date. Nominations of the class's own pods count as if others'.
func (s *Snapshot) failed(c *class) *failure {
	f := c.failure
	if f != nil && f.at == len(s.log) && f.budgets == s.budgetsVersion {
		return f
	}
	if f == nil || c.dependent() {
		f = &failure{asker: &podState{pod: &corev1.Pod{}, demand: c.demand, group: c.group}, refusals: make([]*refusal, len(s.nodes)), counts: map[string]int{}, rows: make([]*eviction, len(s.nodes)), evictions: newEvictions(len(s.nodes))}
		c.failure = f
		s.weight += len(s.nodes)
		s.askAll(c)
	} else {
		for _, ch := range s.log[f.at:] {
			s.refresh(c, ch.node)
		}
		if f.budgets != s.budgetsVersion {
			clear(f.rows)
			f.evictions = newEvictions(len(s.nodes))
			for i := range s.nodes {
				f.due = append(f.due, int32(i))
			}
		}
	}
	f.at, f.budgets, f.text = len(s.log), s.budgetsVersion, ""
	return f
}

// askAll asks each node. Those that follow one another mostly refuse alike.
func (s *Snapshot) askAll(c *class) {
	f := c.failure
	f.due = make([]int32, len(s.nodes))
	var last *refusal
	alike := 0
	for i := range s.nodes {
		r := s.tryNode(c, f.asker, int32(i))
		f.refusals[i], f.due[i] = r, int32(i)
		if r != last {
			f.tell(last, alike)
			last, alike = r, 0
		}
		alike++
	}
	f.tell(last, alike)
}

// tell counts what so many nodes say.
func (f *failure) tell(r *refusal, nodes int) {
	if r == nil {
		return
	}
	for _, text := range r.reasons {
		if f.counts[text] += nodes; f.counts[text] == 0 {
			delete(f.counts, text)
		}
	}
}

// refresh asks a node again.
func (s *Snapshot) refresh(c *class, at int32) {
	f := c.failure
	f.tell(f.refusals[at], -1)
	r := s.tryNode(c, f.asker, at)
	f.drop(c, at)
	f.refusals[at], f.rows[at] = r, nil
	f.due = append(f.due, at)
	f.tell(r, 1)
}

// preempt picks the node on which the least harm makes room for the pod; -1 if there is none, with the reasons of the nodes counted.
func (s *Snapshot) preempt(c *class, p *podState) (int32, map[string]int) {
	if best := s.leastHarm(c, p); best >= 0 {
		return best, nil
	}
	counts, others := map[string]int{}, len(s.nodes)
	var last *refusal
	alike := 0
	tell := func() {
		if last != nil {
			for _, r := range last.reasons {
				counts[r] += alike
			}
		}
	}
	s.tried(c, p, func(_ int32, e *eviction) {
		if others--; e.why != last {
			tell()
			last, alike = e.why, 0
		}
		alike++
	})
	tell()
	if others > 0 {
		counts[unhelpful] = others
	}
	return -1, counts
}

// leastHarm is the node on which the least harm makes room for the pod, -1 if there is none.
func (s *Snapshot) leastHarm(c *class, p *podState) int32 {
	if _, nominated := s.byName[p.pod.Status.NominatedNodeName]; c.all == nil && !c.pinned && !nominated {
		return s.leastOfClass(c)
	}
	best := int32(-1)
	var least *eviction
	s.tried(c, p, func(at int32, e *eviction) {
		if e.why == nil && (least == nil || e.compare(least) < 0 || e.compare(least) == 0 && c.turn(at) < c.turn(best)) {
			best, least = at, e
		}
	})
	return best
}

// tried visits the nodes that may take the pod once others are gone, with what that comes to.
func (s *Snapshot) tried(c *class, p *podState, visit func(int32, *eviction)) {
	fresh := func(at int32) {
		if r := s.tryNode(c, p, at); r != nil && !r.unresolvable {
			visit(at, s.dryRun(c, p, at))
		}
	}
	if c.all != nil {
		return
	}
	if c.pinned {
		if at, ok := s.byName[PinnedTo(&p.pod.Spec)]; ok {
			fresh(at)
		}
		return
	}
	f := c.failure
	own, nominated := s.byName[p.pod.Status.NominatedNodeName]
	for i, r := range f.refusals {
		at := int32(i)
		switch {
		case nominated && at == own:
			fresh(at)
		case r == nil || r.unresolvable:
		default:
			visit(at, s.row(c, at))
		}
	}
}

// compare orders evictions by kube-scheduler's rules: fewer protected victims, a lower highest priority, a lower sum of priorities,
// fewer victims, and victims that started later.
func (e *eviction) compare(o *eviction) int {
	return cmp.Or(cmp.Compare(e.violations, o.violations), cmp.Compare(e.top, o.top), cmp.Compare(e.sum, o.sum), cmp.Compare(len(e.victims), len(o.victims)),
		cmp.Compare(o.earliest, e.earliest))
}

// leastPriority is that of the node's pods.
func (n *nodeState) leastPriority() int32 {
	if !n.ranked {
		n.lowest, n.ranked = math.MaxInt32, true
		for _, q := range n.pods {
			n.lowest = min(n.lowest, priorityOf(q.pod))
		}
	}
	return n.lowest
}

// dryRun finds the fewest and least important pods whose going makes room for p on a node. The node is as before afterwards.
func (s *Snapshot) dryRun(c *class, p *podState, at int32) *eviction {
	n := s.nodes[at]
	if n.leastPriority() >= c.priority {
		return noVictims
	}
	var lower []*podState
	before := n.pods
	n.pods = make([]*podState, 0, len(before)+1)
	for _, q := range before {
		if priorityOf(q.pod) < c.priority {
			lower = append(lower, q)
		} else {
			n.pods = append(n.pods, q)
		}
	}
	// What happens on one node changes nothing elsewhere for a class that does not look at pods of other nodes.
	var h *shift
	if c.dependent() {
		h = s.newShift(c)
	}
	for _, q := range lower {
		n.count(q, -1)
		c.shift(s, h, at, q, -1)
	}
	e := &eviction{}
	if e.why = s.tryWith(c, p, at, h); e.why == nil {
		slices.SortStableFunc(lower, importance)
		s.spare(c, p, at, h, lower, e)
	}
	for _, q := range before {
		if priorityOf(q.pod) < c.priority && (e.why != nil || slices.Contains(e.victims, q)) {
			n.count(q, 1)
		}
	}
	n.pods = before
	return e
}

// spare puts back every pod that the new one has room besides, those that are protected first; what is left are the victims.
func (s *Snapshot) spare(c *class, p *podState, at int32, h *shift, lower []*podState, e *eviction) {
	n := s.nodes[at]
	protected, free := s.split(lower)
	for i, list := range [][]*podState{protected, free} {
		for _, q := range list {
			n.pods = append(n.pods, q)
			n.count(q, 1)
			c.shift(s, h, at, q, 1)
			if s.tryWith(c, p, at, h) == nil {
				continue
			}
			n.pods = n.pods[:len(n.pods)-1]
			n.count(q, -1)
			c.shift(s, h, at, q, -1)
			e.victims = append(e.victims, q)
			if i == 0 {
				e.violations++
			}
		}
	}
	slices.SortStableFunc(e.victims, importance)
	e.top, e.earliest = math.MinInt32, math.MaxInt64
	for _, q := range e.victims {
		k := priorityOf(q.pod)
		e.sum += int64(k) + math.MaxInt32 + 1
		switch {
		case k > e.top:
			e.top, e.earliest = k, started(q.pod)
		case k == e.top:
			e.earliest = min(e.earliest, started(q.pod))
		}
	}
}

// importance orders pods: higher priority first, then those that have run longer.
func importance(a, b *podState) int {
	return cmp.Or(cmp.Compare(priorityOf(b.pod), priorityOf(a.pod)), cmp.Compare(started(a.pod), started(b.pod)),
		cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name))
}

// started is when a pod started; one that has not is younger than any.
func started(p *corev1.Pod) int64 {
	if p.Status.StartTime == nil {
		return math.MaxInt64
	}
	return p.Status.StartTime.UnixNano()
}

// split parts the pods whose going would break a budget, or leave too few of a gang, from the others, keeping the order. Each that goes spends of
// its budgets.
func (s *Snapshot) split(pods []*podState) (protected, free []*podState) {
	if s.readBudgets(); len(s.budgets) == 0 && len(s.groups.gangs) == 0 {
		return nil, pods
	}
	left := make([]int32, len(s.budgets))
	for i, b := range s.budgets {
		left[i] = b.allowed
	}
	gone := map[*runningGang]int{}
	for _, q := range pods {
		broken := false
		if g := q.group.gang; g != nil && !q.group.terminating {
			gone[g]++
			broken = gone[g] > g.spare()
		}
		for i, b := range s.budgets {
			if b.covers(q.pod) {
				left[i]--
				broken = broken || left[i] < 0
			}
		}
		if broken {
			protected = append(protected, q)
		} else {
			free = append(free, q)
		}
	}
	return protected, free
}

// covers tells whether deleting the pod now spends of the budget.
func (b *budget) covers(pod *corev1.Pod) bool {
	if b.Namespace != pod.Namespace || len(pod.Labels) == 0 || b.selector.Empty() || !b.selector.Matches(labels.Set(pod.Labels)) {
		return false
	}
	_, already := b.Status.DisruptedPods[pod.Name]
	return !already
}

// readBudgets reads the budgets of all namespaces, once.
func (s *Snapshot) readBudgets() {
	if s.budgets != nil {
		return
	}
	s.budgets = []*budget{}
	for o := range s.src.List("poddisruptionbudgets", "") {
		if b, ok := o.(*policyv1.PodDisruptionBudget); ok {
			s.budgets = append(s.budgets, &budget{b, selectorOf(b.Spec.Selector), b.Status.DisruptionsAllowed})
		}
	}
}

// evict notes a preemption: the pod is nominated, its victims are going, and pods of lower priority wait for this node no more.
func (s *Snapshot) evict(c *class, p *podState, at int32, d *Decision) {
	n := s.nodes[at]
	var e *eviction
	if f := c.failure; f != nil && !c.pinned && n.node.Name != p.pod.Status.NominatedNodeName {
		e = f.rows[at]
	} else {
		e = s.dryRun(c, p, at)
	}
	d.Nominated = n.node.Name
	victims := make([]place, 0, len(e.victims))
	for _, q := range e.victims {
		victims = append(victims, place{podState: q, at: at})
	}
	for _, q := range append(victims, s.rest(e.victims, c.priority)...) {
		d.Victims = append(d.Victims, q.pod)
		for _, b := range s.budgets {
			if q.pod.DeletionTimestamp == nil && b.covers(q.pod) {
				b.allowed--
				s.budgetsVersion++
				if s.keeping != nil {
					s.spent = true
				}
			}
		}
		if !q.group.terminating {
			s.take(q.at, q.podState)
			s.put(q.at, &podState{pod: q.pod, demand: q.demand, group: s.groups.of(q.pod, true)})
		}
	}
	for _, q := range slices.SortedFunc(slices.Values(n.nominated), importance) {
		if priorityOf(q.pod) < c.priority {
			d.Unnominated = append(d.Unnominated, q.pod)
			s.unnominate(q.pod)
		}
	}
	s.unnominate(p.pod)
	s.nominate(at, p)
}
