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
	// profiles are those of the texts that were read last, with what cannot be read of them; nil if none were.
	profiles Profiles
	fault    error
	texts    map[string]string
}

// Profiles is ReadProfiles for one set of extensions, whose work is done again only when the texts are others.
func (k *Kept) Profiles(src Classes, extensions []*Extension) (Profiles, error) {
	var texts map[string]string
	if o, ok := src.Get(ProfilesKey); ok {
		texts = o.(*corev1.ConfigMap).Data
	}
	if k.profiles == nil || !maps.Equal(texts, k.texts) {
		k.profiles, k.fault = ReadProfiles(src, extensions...)
		k.texts = texts
	}
	return k.profiles, k.fault
}

// Bring brings the snapshot to what src shows and lends it, until Done. changed are the keys of all objects that may be another version
// now than what src showed when it was brought last; others may be among them. What Schedule itself did since then need not be
// named. After a use that did not end with Done it is read anew.
func (k *Kept) Bring(src Source, profiles Profiles, changed []object.Key) *Snapshot {
	if k.s == nil || k.open || k.s.worn(len(changed)) {
		k.s = newKeptSnapshot(src, profiles)
		k.s.awaitAll()
	} else if k.s.bring(src, profiles, changed); k.s.worn(k.s.wear) {
		was := k.s
		was.hear()
		k.s = newKeptSnapshot(src, profiles)
		k.s.adopt(was)
	}
	k.open = true
	return k.s
}

// Done ends a use.
func (k *Kept) Done() { k.open = false }

// keeping is what only a kept snapshot needs.
type keeping struct {
	*waiting
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
	k := &keeping{waiting: newWaiting(), places: map[types.NamespacedName]place{}, served: map[string]int{}}
	s := newSnapshot(src, profiles, "", k)
	s.zones()
	s.readBoxes()
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

// worn tells whether to read everything anew is no dearer than to look at so many changes, or due after so many.
func (s *Snapshot) worn(changes int) bool { return changes > max(minWear, s.size) }

// bring takes changes in.
func (s *Snapshot) bring(src Source, profiles Profiles, changed []object.Key) {
	s.src = src
	s.rounds++
	others := !reflect.DeepEqual(s.profiles, profiles)
	if others {
		s.forgetClasses()
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
			if o, _ := src.Get(k); s.serviced[k.Namespace] {
				s.readService(o)
			}
		case "poddisruptionbudgets":
			s.forgetBudgets()
		case "persistentvolumeclaims", "persistentvolumes", "storageclasses", "csinodes", "csidrivers", "csistoragecapacities", "volumeattachments":
			s.storageChanged(k)
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(dirty), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}) {
		s.bringPod(name)
	}
	s.moved = s.moved[:0]
	if others {
		s.awaitAll()
	}
	s.measure()
	s.dropClasses()
	s.trim(keptRows)
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
		s.forgetClasses()
		clear(s.related)
		s.wakeAll(s.dependent)
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
		s.hear()
		s.remember(at)
		s.reshape()
		n := s.nodes[at]
		old := n.node
		s.countImages(n, -1)
		s.countZones(n, -1)
		fresh := newNodeState(node)
		n.node, n.open, n.zone, n.allocatable, n.maxPods, n.images = node, fresh.open, fresh.zone, fresh.allocatable, fresh.maxPods, fresh.images
		n.zoneNumber = s.numberOf("z/" + n.zone)
		s.countImages(n, 1)
		s.countZones(n, 1)
		s.nodeChanged(old, node, at)
	case had:
		s.hear()
		s.reshape()
		old := s.nodes[at].node
		s.removeNode(at)
		s.nodeChanged(old, nil, -1)
	case there:
		s.hear()
		s.reshape()
		s.addNode(node, "")
		s.nodeChanged(nil, node, s.byName[name])
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
	s.forgetClasses()
	clear(s.topologies)
	s.ranks, s.boxes = nil, nil
	s.wear++
}

// removeNode takes a node away with all that stands there; the last one gets its number.
func (s *Snapshot) removeNode(at int32) {
	n := s.nodes[at]
	for _, p := range slices.Clone(n.pods) {
		s.take(at, p)
	}
	s.nodeStirred(at) // those that it is promised to have to look elsewhere
	for _, p := range slices.Clone(n.nominated) {
		s.unnominate(p.pod)
	}
	s.countImages(n, -1)
	s.hearWithout(at)
	s.surely()
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
	s.await(name, pod)
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
		p := s.stateOf(pod, pod.DeletionTimestamp != nil, true)
		s.put(to.at, p)
		if had && !was.nominated && was.at == to.at && priorityOf(was.pod) == priorityOf(pod) && p.demand.same(was.demand) {
			s.log[len(s.log)-1].same, s.log[len(s.log)-2].same = true, true
		}
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

// spreadSource is what a class's default constraints select pods by.
type spreadSource struct {
	text  string // the selector
	owner *metav1.LabelSelector
	round int // when the namespace's services were looked at
	// checked is when it was seen to be right still.
	checked int
}

// spreads tells whether the class's default constraints still select what they did.
func (s *Snapshot) spreads(c *class) bool {
	if s.keeping == nil || c.spread == nil || c.spread.checked == s.rounds {
		return true
	}
	c.spread.checked = s.rounds
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
