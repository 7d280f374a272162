package scheduler

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

const (
	// maxRows bounds what classes hold while the snapshot is kept: a row is a class and a node, some 80 bytes.
	maxRows = 1 << 20
	// minWear is after how many changes at least a kept snapshot is read anew; it is as many as there are pods and nodes if those are more, so
	// that a change costs the same however large the cluster is. What nobody uses any more (groups, demands, the log) goes with it.
	minWear = 20000
)

// Kept is a snapshot that is brought from one view to the next, so that a decision costs what changed in between and not a look at all nodes
// and pods. What it decides is what a new snapshot of the same view would: it is no memory, but a copy that is kept up to date. The zero
// value is ready. It has one user at a time.
type Kept struct {
	s    *Snapshot
	open bool
}

// Bring brings the snapshot to what src shows and lends it, until Done. changed are the keys of all objects that may be another version
// now than what src showed when it was brought last; others may be among them. What Schedule itself did since then need not be
// named. After a use that did not end with Done it is read anew.
func (k *Kept) Bring(src Source, profiles Profiles, changed []object.Key) *Snapshot {
	if k.s == nil || k.open || k.s.worn(len(changed)) {
		k.s = newKeptSnapshot(src, profiles)
	} else {
		k.s.bring(src, profiles, changed)
	}
	k.open = true
	return k.s
}

// Done ends a use.
func (k *Kept) Done() { k.open = false }

// keeping is what only a kept snapshot needs.
type keeping struct {
	// places tells where each pod stands.
	places map[types.NamespacedName]place
	// moved are the pods that Schedule placed, nominated or evicted since the last Bring: whether it came so, the next view tells.
	moved []types.NamespacedName
	// rounds counts the Brings; served tells in which one a namespace's services may have changed last.
	rounds int
	served map[string]int
	spent  bool // budgets were
	wear   int
	size   int // pods and nodes when it was read
}

// place is a pod on a node, or one that is nominated to it.
type place struct {
	*podState
	at        int32
	nominated bool
}

func newKeptSnapshot(src Source, profiles Profiles) *Snapshot {
	k := &keeping{places: map[types.NamespacedName]place{}, served: map[string]int{}}
	s := newSnapshot(src, profiles, "", k)
	k.moved, k.size = nil, len(k.places)+len(s.nodes)
	return s
}

func nameOf(p *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// note keeps where a pod is, in a snapshot that is kept.
func (s *Snapshot) note(p *podState, to place, there bool) {
	if s.keeping == nil {
		return
	}
	name := nameOf(p.pod)
	if there {
		s.places[name] = to
	} else {
		delete(s.places, name)
	}
	s.moved = append(s.moved, name)
}

// worn tells whether to read everything anew is due, or no dearer than to look at so many changes.
func (s *Snapshot) worn(changes int) bool {
	return s.wear > max(minWear, s.size) || changes > max(minWear, s.size)
}

// bring takes changes in.
func (s *Snapshot) bring(src Source, profiles Profiles, changed []object.Key) {
	s.src = src
	s.rounds++
	if !reflect.DeepEqual(s.profiles, profiles) {
		clear(s.classes)
	}
	s.profiles = profiles
	if s.spent {
		s.forgetBudgets()
	}
	dirty := make(map[types.NamespacedName]bool, len(s.moved))
	for _, name := range s.moved {
		dirty[name] = true
	}
	for _, k := range changed {
		switch k.Resource {
		case "pods":
			dirty[types.NamespacedName{Namespace: k.Namespace, Name: k.Name}] = true
		case "nodes":
			s.bringNode(k.Name)
		case "namespaces":
			s.bringNamespace(k)
		case "services":
			s.served[k.Namespace] = s.rounds
		case "poddisruptionbudgets":
			s.forgetBudgets()
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(dirty), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}) {
		s.bringPod(name)
	}
	s.moved = s.moved[:0]
	s.measure()
	s.dropClasses()
}

func (s *Snapshot) forgetBudgets() {
	if s.budgets != nil {
		s.budgets, s.spent = nil, false
		s.budgetsVersion++
	}
}

// bringNamespace forgets what was decided by a namespace's labels if they are others now.
func (s *Snapshot) bringNamespace(k object.Key) {
	was, asked := s.namespaces[k.Name]
	if !asked {
		return
	}
	delete(s.namespaces, k.Name)
	if is := s.namespace(k.Name); is.known != was.known || !maps.Equal(is.labels, was.labels) {
		clear(s.classes)
	}
}

// bringNode takes in a node that may have come, gone or changed.
func (s *Snapshot) bringNode(name string) {
	o, _ := s.src.Get(object.Key{Resource: "nodes", Name: name})
	node, there := o.(*corev1.Node)
	there = there && node.DeletionTimestamp == nil
	at, had := s.byName[name]
	switch {
	case had && there && s.nodes[at].node == node:
	case had && there && sameNode(s.nodes[at].node, node):
		s.nodes[at].node = node
	case had && there:
		s.reshape()
		n := s.nodes[at]
		s.countImages(n, -1)
		fresh := newNodeState(node)
		n.node, n.allocatable, n.maxPods, n.images = node, fresh.allocatable, fresh.maxPods, fresh.images
		s.countImages(n, 1)
	case had:
		s.reshape()
		s.removeNode(at)
	case there:
		s.reshape()
		s.addNode(node, "")
		for pod := range s.src.Unbound() {
			if pod.Status.NominatedNodeName == name {
				s.settle(nameOf(pod), pod)
			}
		}
	}
}

// sameNode tells whether two versions of a node are the same to all rules and scores.
func sameNode(a, b *corev1.Node) bool {
	return maps.Equal(a.Labels, b.Labels) && ready(a) == ready(b) && equality.Semantic.DeepEqual(&a.Spec, &b.Spec) && sameList(allocatable(a), allocatable(b)) &&
		equality.Semantic.DeepEqual(a.Status.Images, b.Status.Images)
}

// reshape forgets what was decided by the nodes as they were.
func (s *Snapshot) reshape() {
	clear(s.classes)
	clear(s.topologies)
	s.wear++
}

// removeNode takes a node away with all that stands there; the last one gets its number.
func (s *Snapshot) removeNode(at int32) {
	n := s.nodes[at]
	for _, p := range slices.Clone(n.pods) {
		s.take(at, p)
	}
	for _, p := range slices.Clone(n.nominated) {
		s.unnominate(p.pod)
	}
	s.countImages(n, -1)
	last := int32(len(s.nodes) - 1)
	if delete(s.byName, n.node.Name); at != last {
		s.renumber(last, at)
	}
	s.nodes[last] = nil
	s.nodes = s.nodes[:last]
}

// renumber gives a node another number.
func (s *Snapshot) renumber(from, to int32) {
	n := s.nodes[from]
	s.nodes[to], s.byName[n.node.Name] = n, to
	for _, p := range n.pods {
		if count, ok := p.group.on[from]; ok {
			delete(p.group.on, from)
			p.group.on[to] = count
		}
		s.places[nameOf(p.pod)] = place{podState: p, at: to}
	}
	for _, p := range n.nominated {
		s.orders[nameOf(p.pod)] = to
		s.places[nameOf(p.pod)] = place{podState: p, at: to, nominated: true}
	}
}

// bringPod takes in a pod that may have come, gone or changed.
func (s *Snapshot) bringPod(name types.NamespacedName) {
	o, _ := s.src.Get(object.Key{Resource: "pods", Namespace: name.Namespace, Name: name.Name})
	pod, _ := o.(*corev1.Pod)
	s.settle(name, pod)
}

// settle puts a pod where it belongs, nil for one that is gone. The snapshot's pods are always the versions of the view: what is written
// about a victim is a change of that.
func (s *Snapshot) settle(name types.NamespacedName, pod *corev1.Pod) {
	was, had := s.places[name]
	to, ok := s.placeOf(pod)
	if had && ok && to.at == was.at && to.nominated == was.nominated && s.replaces(was, pod) {
		return
	}
	if had && was.nominated {
		s.unnominate(was.pod)
	} else if had {
		s.take(was.at, was.podState)
	}
	switch {
	case !ok:
	case to.nominated:
		s.nominate(to.at, s.stateOf(pod, false, false))
	default:
		s.put(to.at, s.stateOf(pod, pod.DeletionTimestamp != nil, true))
	}
	if had || ok {
		s.wear++
	}
}

// placeOf is where newSnapshot would put a pod.
func (s *Snapshot) placeOf(pod *corev1.Pod) (to place, ok bool) {
	switch {
	case pod == nil || ended(pod):
		return to, false
	case pod.Spec.NodeName != "":
		to.at, ok = s.byName[pod.Spec.NodeName]
		return to, ok
	case pod.DeletionTimestamp != nil:
		return to, false
	}
	to.at, ok = s.byName[pod.Status.NominatedNodeName]
	to.nominated = true
	return to, ok
}

// replaces puts another version of a pod, or the same, in its place, if it counts for the same.
func (s *Snapshot) replaces(was place, pod *corev1.Pod) bool {
	p := was.podState
	bound := !was.nominated
	if p.pod == pod {
		return p.group.terminating == (bound && pod.DeletionTimestamp != nil) // Schedule may have sent it away
	}
	if p.pod.UID != pod.UID || priorityOf(p.pod) != priorityOf(pod) || !p.group.is(pod, bound && pod.DeletionTimestamp != nil) {
		return false
	}
	if d := s.demandOf(pod, bound); d != p.demand && !d.same(p.demand) {
		return false
	}
	if started(p.pod) != started(pod) {
		s.log = append(s.log, change{node: was.at}) // it matters for who has to go first
	}
	p.pod = pod
	return true
}

// same tells whether two demands are.
func (d *demand) same(o *demand) bool {
	return d.owner == o.owner && reflect.DeepEqual(d.requests, o.requests) && d.score == o.score && slices.Equal(d.ports, o.ports)
}

// dropClasses forgets the classes that another view may treat otherwise, and those that were not used for long if there are too many.
func (s *Snapshot) dropClasses() {
	var all []*class
	for h, list := range s.classes {
		list = slices.DeleteFunc(list, func(c *class) bool { return c.storage != nil || c.all != nil || c.weight.load > 0 })
		if len(list) == 0 {
			delete(s.classes, h)
			continue
		}
		s.classes[h] = list
		all = append(all, list...)
	}
	most := maxRows / max(1, len(s.nodes))
	if len(all) <= max(16, most) {
		return
	}
	slices.SortFunc(all, func(a, b *class) int { return cmp.Compare(b.used, a.used) })
	oldest := all[max(8, most/2)].used
	for h, list := range s.classes {
		s.classes[h] = slices.DeleteFunc(list, func(c *class) bool { return c.used <= oldest })
	}
}

// spreadSource is what a class's default constraints select pods by.
type spreadSource struct {
	text  string // the selector
	owner *metav1.LabelSelector
	round int // when the namespace's services were looked at
}

// spreads tells whether the class's default constraints still select what they did.
func (s *Snapshot) spreads(c *class) bool {
	if s.keeping == nil || c.spread == nil || c.used == s.rounds {
		return true
	}
	owner, served := s.ownerSelector(c.pod), s.served[c.pod.Namespace]
	if served <= c.spread.round && equality.Semantic.DeepEqual(owner, c.spread.owner) {
		return true
	}
	c.spread.owner, c.spread.round = owner, s.rounds
	return s.defaultSelector(c.pod, owner).String() == c.spread.text
}

// round is how often the snapshot was brought to a view.
func (s *Snapshot) round() int {
	if s.keeping == nil {
		return 0
	}
	return s.rounds
}
