package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// bucket is the nodes with room for the class that the rules about other pods cannot tell apart, in a heap by what else they score.
type bucket struct {
	key  []int64
	heap []int32
}

// buckets are a class's nodes with room, so that a decision looks at each bucket and not at each node.
type buckets struct {
	filled bool // the rest is nil if not
	list   []*bucket
	byHash map[uint64][]*bucket
	of     []*bucket // by node; nil if it has no room
	at     []int32   // by node: its place in the heap
	base   []int64   // by node: the weighted scores that depend on the node alone
	load   []int32   // by node: how many pods it has; of equal nodes the one with fewer comes first
	// apart are the nodes that pods of no less priority are nominated to: they are looked at one by one.
	apart   map[int32]bool
	touched []int32
	dirty   []bool
	// Scratch space.
	key     []int64
	scratch []candidate
	weights []float64
	bounds  []int64
	seen    map[int32]bool
}

// fill puts every node into its bucket.
func (c *class) fill(s *Snapshot) {
	n := len(s.nodes)
	c.buckets = buckets{byHash: map[uint64][]*bucket{}, of: make([]*bucket, n), at: make([]int32, n), base: make([]int64, n), load: make([]int32, n), filled: true,
		apart: map[int32]bool{}, dirty: make([]bool, n)}
	c.heard = len(c.moved)
	s.weight += n
	for i := range int32(n) {
		c.place(s, i)
	}
}

// touch has a node looked at again.
func (c *class) touch(at int32) {
	if !c.dirty[at] {
		c.dirty[at] = true
		c.touched = append(c.touched, at)
	}
}

// place puts a node where it belongs.
func (c *class) place(s *Snapshot, i int32) {
	n := s.nodes[i]
	delete(c.apart, i)
	if c.static[i] != nil || c.storage != nil && (c.storage.diskRefusal(n) != nil || c.storage.refuseHere(s, i) != nil) {
		c.remove(i)
		return
	}
	if len(n.nominated) > 0 && c.yields(n) {
		if c.dependent() {
			c.remove(i)
			c.apart[i] = true
			return
		}
		if s.tryNode(c, &podState{pod: &corev1.Pod{}, demand: c.demand, group: c.group}, i) != nil {
			c.remove(i)
			return
		}
	}
	if !n.fits(c.demand) {
		c.remove(i)
		return
	}
	c.base[i], c.load[i] = c.score(s, i), int32(len(n.pods))
	h := c.keyOf(i)
	if b := c.of[i]; b != nil {
		if equal(b.key, c.key) {
			c.up(b, c.at[i])
			c.down(b, c.at[i])
			return
		}
		c.remove(i)
	}
	b := c.find(h)
	c.of[i], c.at[i] = b, int32(len(b.heap))
	b.heap = append(b.heap, i)
	c.up(b, c.at[i])
}

// ownScores are the scores of a node that depend on it alone, each before its weight.
type ownScores struct{ fit, balanced, image, load int64 }

func (c *class) own(s *Snapshot, i int32) ownScores {
	n := s.nodes[i]
	out := ownScores{image: c.imageOf(i)}
	out.fit, out.balanced = c.profile.resourceScores(&c.weight, n, c.demand)
	if c.weight.load > 0 {
		out.load = n.loadScore(c.demand)
	}
	return out
}

// weigh is their weighted sum, with those of the profile's extensions.
func (c *class) weigh(own *ownScores, i int32) int64 {
	w := &c.weight
	sum := w.fit*own.fit + w.balanced*own.balanced + w.image*own.image + w.load*own.load
	if c.foreigns != nil {
		sum += c.foreigns[i]
	}
	return sum
}

// score is the weighted sum of the scores that depend on the node alone and are not put into proportion to others.
func (c *class) score(s *Snapshot, i int32) int64 {
	own := c.own(s, i)
	return c.weigh(&own, i)
}

// imageOf is ImageLocality's score.
func (sh *shape) imageOf(i int32) int64 {
	if sh.image == nil {
		return 0
	}
	return sh.image[i]
}

// full makes the buckets of a class that has none.
func (s *Snapshot) full(c *class) {
	if !c.filled {
		c.fill(s)
	}
}

// keyOf writes into c.key what the rules about other pods see of a node, and returns its hash.
func (c *class) keyOf(i int32) uint64 {
	c.key = append(c.key[:0], c.taints[i], c.preferred[i])
	for _, sl := range c.slots {
		d := sl.domain[i]
		switch {
		case d < 0:
			c.key = append(c.key, math.MinInt64)
		case sl.wide:
			c.key = append(c.key, sl.counts[d])
		default:
			c.key = append(c.key, int64(d))
		}
	}
	if c.zones != nil {
		c.key = append(c.key, int64(c.zones.domain[i]))
	}
	h := uint64(0)
	for _, v := range c.key {
		h = mix(h ^ uint64(v))
	}
	return h
}

func (c *class) find(h uint64) *bucket {
	for _, b := range c.byHash[h] {
		if equal(b.key, c.key) {
			return b
		}
	}
	b := &bucket{key: append([]int64(nil), c.key...)}
	c.byHash[h] = append(c.byHash[h], b)
	c.list = append(c.list, b)
	return b
}

func equal(a, b []int64) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// before tells whether node i is to be taken before j of the same bucket.
func (c *class) before(i, j int32) bool {
	return c.base[i] > c.base[j] || c.base[i] == c.base[j] && c.first(i, j)
}

// first tells whether node i of a zone comes before j where both score the same.
func (c *class) first(i, j int32) bool {
	return c.load[i] < c.load[j] || c.load[i] == c.load[j] && c.turn(i) < c.turn(j)
}

func (c *class) remove(i int32) {
	b := c.of[i]
	if b == nil {
		return
	}
	last := int32(len(b.heap) - 1)
	at := c.at[i]
	c.swap(b, at, last)
	b.heap = b.heap[:last]
	c.of[i] = nil
	if at < last {
		c.up(b, at)
		c.down(b, at)
	}
}

func (c *class) swap(b *bucket, x, y int32) {
	b.heap[x], b.heap[y] = b.heap[y], b.heap[x]
	c.at[b.heap[x]], c.at[b.heap[y]] = x, y
}

func (c *class) up(b *bucket, x int32) {
	for x > 0 {
		parent := (x - 1) / 2
		if !c.before(b.heap[x], b.heap[parent]) {
			return
		}
		c.swap(b, x, parent)
		x = parent
	}
}

func (c *class) down(b *bucket, x int32) {
	for {
		best := x
		for child := 2*x + 1; child <= 2*x+2 && int(child) < len(b.heap); child++ {
			if c.before(b.heap[child], b.heap[best]) {
				best = child
			}
		}
		if best == x {
			return
		}
		c.swap(b, x, best)
		x = best
	}
}
