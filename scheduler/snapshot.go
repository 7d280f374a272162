package scheduler

import (
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// Snapshot is the nodes of a cluster with what runs on them, in a form that is quick to schedule on. It belongs to one user,
// who may change it by Bind; the objects it was made from are not changed.
type Snapshot struct {
	nodes  []*nodeState
	byName map[string]*nodeState
}

// nodeState is one node's row.
type nodeState struct {
	node        *corev1.Node
	hash        uint64
	allocatable amounts
	used        amounts
	// usedScore counts what scoring counts: pods without requests as if they had Kubernetes' defaults.
	usedScore score
	ports     map[port]bool
	owners    map[types.UID]int64
}

type port struct {
	ip, protocol string
	number       int32
}

// NewSnapshot reads all nodes and the pods on them. Its cost is one pass over both.
func NewSnapshot(src Source) *Snapshot { return newSnapshot(src, "") }

// Explain returns a verdict on a pod for every node of src, in the order of names: the first rule that refuses it there, or the
// score. A pod that is bound already is looked at as if it were not.
func Explain(src Source, pod *corev1.Pod) []Verdict {
	s := newSnapshot(src, pod.UID)
	return s.verdicts(s.newClass(pod, nil))
}

// newSnapshot leaves out the pod of the UID.
func newSnapshot(src Source, without types.UID) *Snapshot {
	s := &Snapshot{byName: map[string]*nodeState{}}
	classes := map[types.UID]*demand{}
	for o := range src.List("nodes", "") {
		node, ok := o.(*corev1.Node)
		if !ok || node.DeletionTimestamp != nil {
			continue
		}
		n := &nodeState{node: node, hash: hash(node.Name), ports: map[port]bool{}, owners: map[types.UID]int64{}}
		n.allocatable.addList(allocatable(node))
		for pod := range src.PodsOn(node.Name) {
			if !ended(pod) && (without == "" || pod.UID != without) {
				n.add(pod, demandOf(pod, classes))
			}
		}
		s.nodes = append(s.nodes, n)
		s.byName[node.Name] = n
	}
	return s
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
	if n, ok := s.byName[node]; ok {
		n.add(pod, demandOf(pod, nil))
	}
}

func (n *nodeState) add(pod *corev1.Pod, d *demand) {
	n.used.add(&d.requests)
	n.used.pods++
	n.usedScore.cpu += d.score.cpu
	n.usedScore.memory += d.score.memory
	for _, p := range d.ports {
		n.ports[p] = true
	}
	if d.owner != "" && pod.DeletionTimestamp == nil {
		n.owners[d.owner]++
	}
}

// ended tells whether a pod has given back its resources.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// tie orders nodes of equal score for a pod: a hash of owner, slot and node, so that equal pods go different ways and the same
// pod always the same way.
func tie(pod, node uint64) uint64 {
	x := pod ^ node
	// The finaliser of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// podHash is the hash of a pod's owner and slot, or of its name where it has none.
func podHash(pod *corev1.Pod, owner types.UID) uint64 {
	slot := pod.Annotations[object.AnnotationSlot]
	if owner == "" || slot == "" {
		return hash(pod.Namespace + "/" + pod.Name)
	}
	return hash(string(owner) + "/" + slot)
}

func hash(t string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(t))
	return h.Sum64()
}
