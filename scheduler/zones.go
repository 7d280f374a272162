package scheduler

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// zoneKey is the pods of one owner in one zone; those without an owner are their namespace's. Both are numbers of the snapshot's own: the texts are long.
type zoneKey struct{ mates, zone int32 }

// numberOf is the number of a text, which begins with what it is.
func (s *Snapshot) numberOf(text string) int32 {
	n, ok := s.numbers[text]
	if !ok {
		n = int32(len(s.numbers)) + 1
		s.numbers[text] = n
	}
	return n
}

// matesOf is the number of an owner's pods, or of those of a namespace that have no owner.
func (s *Snapshot) matesOf(owner types.UID, namespace string) int32 {
	if owner != "" {
		return s.numberOf("o/" + string(owner))
	}
	return s.numberOf("n/" + namespace)
}

// countZone adds sign times a pod to those of its owner in the node's zone.
func (s *Snapshot) countZone(n *nodeState, p *podState, sign int64) {
	k := zoneKey{p.mates, n.zoneNumber}
	if p.owner == "" {
		k.mates = s.matesOf("", p.pod.Namespace)
	}
	if s.zoned[k] += sign; s.zoned[k] == 0 {
		delete(s.zoned, k)
	}
}

// countZones does so for all pods of a node.
func (s *Snapshot) countZones(n *nodeState, sign int64) {
	for _, p := range n.pods {
		s.countZone(n, p, sign)
	}
}

// zones are the nodes by their zone, nil if zones are so many that buckets would be too.
func (s *Snapshot) zones() *topology {
	if t := s.topology(corev1.LabelTopologyZone); !t.wide {
		return t
	}
	return nil
}

// precedes tells whether node i comes before j, of any two that score the same.
func (s *Snapshot) precedes(c *class, i, j int32) bool {
	if x, y := len(s.nodes[i].pods), len(s.nodes[j].pods); x != y {
		return x < y
	}
	if c.zones == nil || c.zones.domain[i] == c.zones.domain[j] {
		return c.turn(i) < c.turn(j)
	}
	a, b := s.zoned[zoneKey{c.among, s.nodes[i].zoneNumber}], s.zoned[zoneKey{c.among, s.nodes[j].zoneNumber}]
	return a < b || a == b && c.turn(i) < c.turn(j)
}

// order is the nodes' places in the order in which nodes that are as good are taken: by a hash of their names.
func (s *Snapshot) order() []int32 {
	if s.ranks != nil {
		return s.ranks
	}
	type place struct {
		hash uint64
		at   int32
	}
	list := make([]place, len(s.nodes))
	for i, n := range s.nodes {
		list[i] = place{n.hash, int32(i)}
	}
	slices.SortFunc(list, func(a, b place) int {
		if a.hash != b.hash {
			return cmp.Compare(a.hash, b.hash)
		}
		return cmp.Compare(s.nodes[a.at].node.Name, s.nodes[b.at].node.Name)
	})
	s.ranks = make([]int32, len(s.nodes))
	for rank, p := range list {
		s.ranks[p.at] = int32(rank)
	}
	return s.ranks
}

// turn is a node's place in the order of ties of the class: each owner begins elsewhere.
func (c *class) turn(i int32) int32 {
	if t := c.tie[i] - c.begin; t >= 0 {
		return t
	}
	return c.tie[i] - c.begin + int32(len(c.tie))
}
