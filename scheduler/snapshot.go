package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// Snapshot is the nodes of a cluster with what runs on them, in a form that is quick to schedule on. It belongs to one user,
// who may change it by Schedule and Bind; the objects it was made from are not changed.
type Snapshot struct {
	src        Source
	profiles   Profiles
	nodes      []*nodeState
	byName     map[string]int32
	groups     *groups
	topologies map[string]*topology
	images     map[string]int64 // nodes that have an image, by its name
	namespaces map[string]namespaceLabels
	demands    map[types.UID]*demand
	classes    map[uint64][]*class
	latest     *class // the one of classes that was used last, nil if it is there no more
	shapes     map[uint64][]*shape
	uses       int   // of classes
	weight     int   // of classes and shapes, in rows
	most       int   // rows that they may have
	boxes      []box // of the nodes; nil until somebody asks
	boxed      int   // how much of the log they have taken in
	log        []change
	claims     map[object.Key]int64           // pods that use a claim, if it was asked for
	orders     map[types.NamespacedName]int32 // the nodes that pods are nominated to
	serviced   map[string]bool                // namespaces whose services were asked which labels they read
	zoned      map[zoneKey]int64              // pods by owner and zone
	numbers    map[string]int32               // of owners, namespaces and zones
	short      [256]*refusal                  // what is said of nodes that lack something, by lacks
	ranks      []int32                        // the nodes' places in the order of ties; nil if it is not known
	// budgets are read when first needed; their version rises as they are spent.
	budgets        []*budget
	budgetsVersion int
	loaded         bool // a profile scores nodes by what their pods use
	fleeting       bool // some classes are
	*keeping            // nil for one that is not kept
}

// change is what a class has to hear of: sign pods of the group on the node; no group says that the node is to be looked at again.
type change struct {
	group *group
	node  int32
	sign  int64
	same  bool // another pod of the same demand and priority came, or went, with it
}

// nodeState is one node's row.
type nodeState struct {
	node *corev1.Node
	// name is the node's. open tells that nothing in its own specification keeps a pod off that asks for nothing special. Both save a look at the node.
	name        string
	open        bool
	hash        uint64
	zone        string
	zoneNumber  int32
	allocatable amounts
	maxPods     int64
	used        amounts
	// usedScore counts what scoring counts: pods without requests as if they had Kubernetes' defaults.
	usedScore score
	load      score // what the pods were measured to use; only where a profile scores it
	ports     map[port]int
	pods      []*podState
	lowest    int32 // the least priority of the pods, if ranked
	ranked    bool
	// nominated are pods without a node that wait for others to leave this one.
	nominated []*podState
	images    map[string]int64 // their sizes
}

// podState is a pod on a node.
type podState struct {
	pod *corev1.Pod
	*demand
	group *group
	use   score // its part of the node's load
}

// demand is what a pod asks of any node. It is shared by pods made from one template.
type demand struct {
	owner    types.UID
	mates    int32 // the owner's number, if there is one
	requests amounts
	score    score
	ports    []port
	spec     *corev1.PodSpec
}

// NewSnapshot reads all nodes and the pods on them, to be scheduled by Kubernetes' default profile. Its cost is one pass over both.
func NewSnapshot(src Source) *Snapshot {
	return NewSnapshotFor(src, Profiles{corev1.DefaultSchedulerName: DefaultProfile()})
}

// NewSnapshotFor is NewSnapshot with profiles. Pods of a name that is not among them are scheduled by Kubernetes' default profile, if
// asked for.
func NewSnapshotFor(src Source, p Profiles) *Snapshot { return newSnapshot(src, p, "", nil) }

func (s *Snapshot) profileOf(pod *corev1.Pod) *Profile {
	if p, ok := s.profiles.Of(pod); ok {
		return p
	}
	return DefaultProfile()
}

// newSnapshot leaves out the pod of the UID. k is for one that is kept.
func newSnapshot(src Source, p Profiles, without types.UID, k *keeping) *Snapshot {
	s := &Snapshot{src: src, profiles: p, byName: map[string]int32{}, groups: newGroups(), topologies: map[string]*topology{}, images: map[string]int64{},
		namespaces: map[string]namespaceLabels{}, demands: map[types.UID]*demand{}, classes: map[uint64][]*class{}, shapes: map[uint64][]*shape{}, most: maxRows,
		orders: map[types.NamespacedName]int32{}, serviced: map[string]bool{}, zoned: map[zoneKey]int64{}, numbers: map[string]int32{}, loaded: p.measures(), keeping: k}
	for o := range src.List("nodes", "") {
		node, ok := o.(*corev1.Node)
		if !ok || node.DeletionTimestamp != nil {
			continue
		}
		s.addNode(node, without)
	}
	for pod := range src.Unbound() {
		if at, ok := s.byName[pod.Status.NominatedNodeName]; ok && (without == "" || pod.UID != without) {
			s.nominate(at, s.stateOf(pod, false, false))
		}
	}
	s.log = nil
	return s
}

// addNode makes a node's row, with the pods that are there.
func (s *Snapshot) addNode(node *corev1.Node, without types.UID) {
	n := newNodeState(node)
	n.zoneNumber = s.numberOf("z/" + n.zone)
	at := int32(len(s.nodes))
	s.nodes = append(s.nodes, n)
	s.byName[node.Name] = at
	s.countImages(n, 1)
	for pod := range s.src.PodsOn(node.Name) {
		switch {
		case s.keeping != nil:
			s.settle(nameOf(pod), pod) // it may stand elsewhere
		case !ended(pod) && (without == "" || pod.UID != without):
			s.put(at, s.stateOf(pod, pod.DeletionTimestamp != nil, true))
		}
	}
}

// countImages counts a node's images among those of all.
func (s *Snapshot) countImages(n *nodeState, sign int64) {
	for name := range n.images {
		if s.images[name] += sign; s.images[name] == 0 {
			delete(s.images, name)
		}
	}
}

func newNodeState(node *corev1.Node) *nodeState {
	n := &nodeState{node: node, name: node.Name, open: open(node), hash: mix(hash(node.Name)), zone: node.Labels[corev1.LabelTopologyZone]}
	n.allocatable, n.maxPods = amountsOf(allocatable(node))
	if len(node.Status.Images) > 0 {
		n.images = map[string]int64{}
		for i := range node.Status.Images {
			for _, name := range node.Status.Images[i].Names {
				n.images[name] = node.Status.Images[i].SizeBytes
			}
		}
	}
	return n
}

// open tells that a node is ready for pods, takes new ones and has no taints.
func open(node *corev1.Node) bool {
	return ready(node) && !node.Spec.Unschedulable && len(node.Spec.Taints) == 0
}

// allocatable is what a node offers; a node that tells only its capacity offers that.
func allocatable(node *corev1.Node) corev1.ResourceList {
	if len(node.Status.Allocatable) > 0 {
		return node.Status.Allocatable
	}
	return node.Status.Capacity
}

// Nodes is the number of nodes.
func (s *Snapshot) Nodes() int { return len(s.nodes) }

// Bind notes that a pod runs on a node from now on. It does nothing for an unknown node.
func (s *Snapshot) Bind(pod *corev1.Pod, node string) {
	if at, ok := s.byName[node]; ok {
		s.put(at, s.stateOf(pod, pod.DeletionTimestamp != nil, false))
	}
}

func (s *Snapshot) stateOf(pod *corev1.Pod, terminating, bound bool) *podState {
	return &podState{pod: pod, demand: s.demandOf(pod, bound), group: s.groups.of(pod, terminating)}
}

// put adds a pod to a node's row.
func (s *Snapshot) put(at int32, p *podState) {
	n := s.nodes[at]
	s.grouped(p)
	n.pods = append(n.pods, p)
	n.ranked = false
	n.count(p, 1)
	s.countZone(n, p, 1)
	s.load(n, p, 1)
	s.useClaims(p.pod, 1)
	p.group.on[at]++
	s.gangChanged(p)
	s.claimsStirred(p.pod)
	s.log = append(s.log, change{group: p.group, node: at, sign: 1})
	s.note(p, place{podState: p, at: at}, true)
}

// take is the opposite of put.
func (s *Snapshot) take(at int32, p *podState) {
	s.remember(at)
	n := s.nodes[at]
	n.pods = slices.DeleteFunc(n.pods, func(q *podState) bool { return q == p })
	n.ranked = false
	n.count(p, -1)
	s.countZone(n, p, -1)
	s.load(n, p, -1)
	s.useClaims(p.pod, -1)
	if p.group.on[at]--; p.group.on[at] == 0 {
		delete(p.group.on, at)
	}
	s.gangChanged(p)
	s.claimsStirred(p.pod)
	s.log = append(s.log, change{group: p.group, node: at, sign: -1})
	s.note(p, place{}, false)
}

// count adds sign times the pod to the node's sums.
func (n *nodeState) count(p *podState, sign int64) {
	n.used.add(&p.requests, sign)
	n.usedScore.cpu += sign * p.score.cpu
	n.usedScore.memory += sign * p.score.memory
	if n.ports == nil && len(p.ports) > 0 {
		n.ports = map[port]int{}
	}
	for _, q := range p.ports {
		if n.ports[q] += int(sign); n.ports[q] <= 0 {
			delete(n.ports, q)
		}
	}
}

// nominate notes that a pod waits for the node.
func (s *Snapshot) nominate(at int32, p *podState) {
	n := s.nodes[at]
	s.grouped(p)
	n.nominated = append(n.nominated, p)
	s.orders[nameOf(p.pod)] = at
	s.log = append(s.log, change{group: p.group, node: at}) // no count changes, but classes hear of the group
	s.note(p, place{podState: p, at: at, nominated: true}, true)
}

// unnominate is the opposite, for any pod.
func (s *Snapshot) unnominate(pod *corev1.Pod) {
	at, ok := s.orders[nameOf(pod)]
	if !ok {
		return
	}
	n := s.nodes[at]
	i := slices.IndexFunc(n.nominated, func(p *podState) bool { return samePod(p.pod, pod) })
	if i < 0 {
		return // another one of the name
	}
	p := n.nominated[i]
	s.remember(at)
	n.nominated = slices.Delete(n.nominated, i, i+1)
	delete(s.orders, nameOf(pod))
	s.log = append(s.log, change{node: at})
	s.note(p, place{}, false)
	if s.keeping != nil {
		if q := s.waiting.pods[nameOf(pod)]; q != nil {
			s.try(q)
		}
	}
}

// demandOf reads a pod's demand; one demand an owner is kept, which serves all its pods whose specification asks for the same.
func (s *Snapshot) demandOf(pod *corev1.Pod, bound bool) *demand {
	owner := ownerOf(pod)
	own := bound && (resized(pod) || pod.Spec.Resources != nil) // once it runs, other defaults count for a pod with resources of its own
	if d := s.demands[owner]; d != nil && !own && sameRequests(d.spec, &pod.Spec) {
		return d
	}
	d := &demand{owner: owner, spec: &pod.Spec, ports: hostPorts(pod)}
	d.requests, d.score = requestsOf(pod, bound)
	if owner != "" {
		d.mates = s.matesOf(owner, "")
	}
	if owner != "" && !own {
		s.demands[owner] = d
	}
	return d
}

func ownerOf(pod *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		return ref.UID
	}
	return ""
}

// resized tells whether the status says anything about resources, which then count too.
func resized(pod *corev1.Pod) bool {
	if pod.Status.Resources != nil || len(pod.Status.AllocatedResources) > 0 {
		return true
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Resources != nil || len(list[i].AllocatedResources) > 0 {
				return true
			}
		}
	}
	return false
}

// ended tells whether a pod has given back its resources.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// namespace tells a namespace's labels.
func (s *Snapshot) namespace(name string) namespaceLabels {
	if l, ok := s.namespaces[name]; ok {
		return l
	}
	l := namespaceLabels{}
	if o, ok := s.src.Get(object.Key{Resource: "namespaces", Name: name}); ok {
		l = namespaceLabels{o.GetLabels(), true}
	}
	s.namespaces[name] = l
	return l
}
