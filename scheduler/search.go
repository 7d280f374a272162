package scheduler

import (
	"cmp"
	"math"
	"slices"
)

// A class of few pods finds its nodes without buckets of its own: the nodes of its shape that the rules about other pods cannot tell apart are a
// cell, which holds them in blocks of nodes that are used alike. What the best of a block can score at most tells which blocks are to be looked at;
// those are few, so that pods which all ask for something else cost no look at all nodes each.

// blockSize is how many nodes a block has at most when its cell is sorted.
const blockSize = 32

// span is a least and a greatest value.
type span struct{ least, most float64 }

func (a *span) widen(b span) { a.least, a.most = min(a.least, b.least), max(a.most, b.most) }

// box is what bounds the scores of a node, or of several.
type box struct {
	cpu, memory       float64 // the least share in use, as scoring counts
	perCPU, perMemory span    // of one over what a node offers
	uneven            span    // share of the CPU less that of memory, by what is asked for
	even              int64   // the least evenness of the two
	freeCPU, freeMem  span    // what is left
	room              span    // how many more pods
	load              int32   // the least number of pods
	first, last       int32   // places in the order of ties
	image             int64   // the highest score of ImageLocality
	odd               bool    // one offers no CPU or memory: nothing is known
}

// boxOf is the box of a node.
func (s *Snapshot) boxOf(i int32) box {
	n := s.nodes[i]
	a, u := &n.allocatable, &n.used
	b := box{load: int32(len(n.pods)), first: s.ranks[i], last: s.ranks[i], odd: a.cpu <= 0 || a.memory <= 0}
	b.freeCPU, b.freeMem = one(float64(a.cpu-u.cpu)), one(float64(a.memory-u.memory))
	b.room = one(float64(n.maxPods - int64(len(n.pods))))
	if b.odd {
		return b
	}
	b.perCPU, b.perMemory = one(1/float64(a.cpu)), one(1/float64(a.memory))
	b.cpu, b.memory = float64(n.usedScore.cpu)*b.perCPU.least, float64(n.usedScore.memory)*b.perMemory.least
	shares := [2]float64{min(float64(u.cpu)/float64(a.cpu), 1), min(float64(u.memory)/float64(a.memory), 1)}
	b.uneven, b.even = one(shares[0]-shares[1]), evenness(shares[:])
	return b
}

func one(x float64) span { return span{x, x} }

// widen makes a box that holds both.
func (b *box) widen(o *box) {
	b.cpu, b.memory = min(b.cpu, o.cpu), min(b.memory, o.memory)
	b.perCPU.widen(o.perCPU)
	b.perMemory.widen(o.perMemory)
	b.uneven.widen(o.uneven)
	b.even = min(b.even, o.even)
	b.freeCPU.widen(o.freeCPU)
	b.freeMem.widen(o.freeMem)
	b.room.widen(o.room)
	b.load = min(b.load, o.load)
	b.first, b.last = min(b.first, o.first), max(b.last, o.last)
	b.image = max(b.image, o.image)
	b.odd = b.odd || o.odd
}

// cell is nodes that the rules about other pods cannot tell apart.
type cell struct {
	key    []int64
	nodes  int
	blocks []*block
	moved  int // how many of its nodes have changed since it was sorted
}

// block is some nodes of a cell.
type block struct {
	box
	of    *cell
	nodes []int32
	dirty bool // the box is to be made anew
}

// cells are a shape's.
type cells struct {
	list   []*cell
	byHash map[uint64][]*cell
	at     []*block // by node; nil for one that the shape's pods may not be on
}

// search finds the node of a pod of a class that has no buckets yet; false if it has to have them.
func (s *Snapshot) search(c *class, p *podState) (int32, bool) {
	if c.filled || c.searches > len(s.nodes)/256+3 || !s.searchable(c) {
		return -1, false
	}
	c.searches++
	s.readBoxes()
	if c.cells == nil {
		c.split(s)
	}
	q := c.query(s)
	out := c.scratch[:0]
	for _, l := range c.cells.list {
		if l.nodes == 0 || c.others(l.any(), nil) != nil {
			continue
		}
		if m, ok := q.best(p, l); ok {
			out = append(out, m)
		}
	}
	c.rate(out)
	c.scratch = out
	return s.best(c, out), true
}

// searchable tells whether what the best of a block scores at most can be told, and whether no rule has to know all nodes that fit.
func (s *Snapshot) searchable(c *class) bool {
	if !c.weight.usual || c.storage != nil || c.weight.load > 0 || c.foreigns != nil {
		return false
	}
	if len(c.soft) == 0 {
		return true
	}
	for i := range c.soft {
		if sl := c.slots[c.soft[i].slot]; sl.key != "" && sl.wide {
			return false
		}
	}
	return len(s.orders) == 0 && len(c.ports) == 0 && len(c.requests.other) == 0 && c.requests.storage == 0
}

// readBoxes brings the nodes' boxes up to date.
func (s *Snapshot) readBoxes() {
	if s.boxes == nil {
		s.order()
		s.boxes = make([]box, len(s.nodes))
		for i := range s.boxes {
			s.boxes[i] = s.boxOf(int32(i))
		}
		s.boxed = len(s.log)
	}
	for ; s.boxed < len(s.log); s.boxed++ {
		at := s.log[s.boxed].node
		s.boxes[at] = s.boxOf(at)
	}
}

// split puts the nodes that the shape's pods may be on into cells.
func (c *class) split(s *Snapshot) {
	c.cells = &cells{byHash: map[uint64][]*cell{}, at: make([]*block, len(s.nodes))}
	s.weight += len(s.nodes)
	for i := range int32(len(s.nodes)) {
		c.rekey(i)
	}
}

// rekey puts a node into its cell.
func (c *class) rekey(i int32) {
	if c.static[i] != nil {
		return
	}
	h := c.keyOf(i)
	if b := c.cells.at[i]; b != nil {
		if b.dirty = true; equal(b.of.key, c.key) {
			b.of.moved++
			return
		}
		b.nodes = slices.DeleteFunc(b.nodes, func(n int32) bool { return n == i })
		b.of.nodes--
	}
	c.cells.find(h, c.key).add(c.cells, i)
}

func (l *cells) find(h uint64, key []int64) *cell {
	for _, x := range l.byHash[h] {
		if equal(x.key, key) {
			return x
		}
	}
	x := &cell{key: slices.Clone(key)}
	l.byHash[h] = append(l.byHash[h], x)
	l.list = append(l.list, x)
	return x
}

// add puts a node into the last block.
func (l *cell) add(all *cells, i int32) {
	if len(l.blocks) == 0 || len(l.blocks[len(l.blocks)-1].nodes) >= blockSize {
		l.blocks = append(l.blocks, &block{of: l})
	}
	b := l.blocks[len(l.blocks)-1]
	b.nodes, b.dirty = append(b.nodes, i), true
	all.at[i] = b
	l.nodes++
	l.moved++
}

// any is one of the nodes.
func (l *cell) any() int32 {
	for _, b := range l.blocks {
		if len(b.nodes) > 0 {
			return b.nodes[0]
		}
	}
	return -1
}

// tidy sorts a cell if much of it has changed, and makes the boxes anew of blocks that have.
func (l *cell) tidy(c *class, boxes []box) {
	if l.moved > l.nodes/4+blockSize {
		l.sort(c.cells, boxes)
	}
	for _, b := range l.blocks {
		if !b.dirty {
			continue
		}
		b.dirty = false
		for k, i := range b.nodes {
			if k == 0 {
				b.box = boxes[i]
				b.image = c.imageOf(i)
				continue
			}
			b.widen(&boxes[i])
			b.image = max(b.image, c.imageOf(i))
		}
	}
}

// sort puts nodes that are used alike into one block, and of those that are used the same the ones that come first.
func (l *cell) sort(all *cells, boxes []box) {
	type place struct {
		at   int32
		code uint64
	}
	list := make([]place, 0, l.nodes)
	for _, b := range l.blocks {
		for _, i := range b.nodes {
			x := &boxes[i]
			list = append(list, place{i, interleave(x.cpu, x.memory)})
		}
	}
	slices.SortFunc(list, func(a, b place) int {
		x, y := &boxes[a.at], &boxes[b.at]
		return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(x.load, y.load), cmp.Compare(x.first, y.first))
	})
	l.blocks, l.nodes, l.moved = nil, 0, 0
	for _, p := range list {
		l.add(all, p.at)
	}
	l.moved = 0
}

// interleave is a place on the Z-order curve through the shares of CPU and memory in use: what is near there is near in both.
func interleave(cpu, memory float64) (out uint64) {
	x, y := uint64(min(max(cpu, 0), 1)*4095), uint64(min(max(memory, 0), 1)*4095)
	for bit := range 12 {
		out |= (x>>bit&1)<<(2*bit+1) | (y>>bit&1)<<(2*bit)
	}
	return out
}

// query is what bounds ask of a class.
type query struct {
	s                    *Snapshot
	c                    *class
	cpu, memory          float64 // asked for
	scoreCPU, scoreMem   float64 // as scoring counts
	weightCPU, weightMem int64
	asks                 bool
	counts               bool // the number of nodes that fit matters
}

func (c *class) query(s *Snapshot) *query {
	q := &query{s: s, c: c, cpu: float64(c.requests.cpu), memory: float64(c.requests.memory), scoreCPU: float64(c.demand.score.cpu), scoreMem: float64(c.demand.score.memory),
		asks: c.requests.cpu != 0 || c.requests.memory != 0, counts: len(c.soft) > 0,
		weightCPU: c.weight.cpu, weightMem: c.weight.memory}
	return q
}

// slack covers what rounding may take from a bound.
const slack = 1e-6

// most is what a node of the box scores at most.
func (q *query) most(b *box) int64 {
	if b.odd {
		return math.MaxInt64
	}
	w := &q.c.weight
	left := func(used float64) int64 { return int64(max(0, (1-used)*maxScore+slack)) }
	fit := int64(0)
	if sum := q.weightCPU + q.weightMem; sum > 0 {
		fit = (q.weightCPU*left(b.cpu+q.scoreCPU*b.perCPU.least) + q.weightMem*left(b.memory+q.scoreMem*b.perMemory.least)) / sum
	}
	total := w.fit*fit + w.image*b.image
	if !q.asks {
		return total
	}
	low := b.uneven.least + q.cpu*b.perCPU.least - q.memory*b.perMemory.most
	high := b.uneven.most + q.cpu*b.perCPU.most - q.memory*b.perMemory.least
	apart := 0.0
	switch {
	case low > 0:
		apart = low
	case high < 0:
		apart = -high
	}
	then := int64((1-apart/2)*maxScore + slack)
	return total + w.balanced*(maxScore/2+(maxScore/2+then-b.even)/2)
}

// none tells whether no node of the box has room, all whether each has.
func (q *query) none(b *box) bool {
	return b.room.most < 1 || q.cpu > 0 && q.cpu > b.freeCPU.most || q.memory > 0 && q.memory > b.freeMem.most
}

func (q *query) all(b *box) bool {
	return b.room.least >= 1 && (q.cpu <= 0 || q.cpu <= b.freeCPU.least) && (q.memory <= 0 || q.memory <= b.freeMem.least)
}

// turn is the least place in the class's order of ties that a node of the box can have.
func (q *query) turn(b *box) int32 {
	if b.first < q.c.begin && q.c.begin <= b.last {
		return 0
	}
	if b.first >= q.c.begin {
		return b.first - q.c.begin
	}
	return b.first - q.c.begin + int32(len(q.c.tie))
}

// found is the best node so far.
type found struct {
	node  int32
	score int64
	load  int32
	turn  int32
}

// beats tells whether a node of the box might be better than f, with a score of so much.
func (q *query) beats(b *box, score int64, f *found) bool {
	switch {
	case f.node < 0 || score > f.score:
		return true
	case score < f.score || b.load > f.load:
		return false
	}
	return b.load < f.load || q.turn(b) < f.turn
}

// best is the best node of a cell that has room; false if none has.
func (q *query) best(p *podState, l *cell) (candidate, bool) {
	l.tidy(q.c, q.s.boxes)
	f := found{node: -1}
	count := 0
	var top *block
	var most int64
	bounds := q.c.bounds[:0]
	for _, b := range l.blocks {
		score := int64(math.MinInt64)
		if len(b.nodes) > 0 && !q.none(&b.box) {
			score = q.most(&b.box)
			if top == nil || score > most || score == most && (b.load < top.load || b.load == top.load && q.turn(&b.box) < q.turn(&top.box)) {
				top, most = b, score
			}
			if q.counts {
				count += q.fitting(b)
			}
		}
		bounds = append(bounds, score)
	}
	q.c.bounds = bounds
	if top == nil {
		return candidate{}, false
	}
	q.look(p, top, &f)
	for k, b := range l.blocks {
		if b != top && bounds[k] != math.MinInt64 && q.beats(&b.box, bounds[k], &f) {
			q.look(p, b, &f)
		}
	}
	return candidate{node: f.node, count: count, own: f.score}, f.node >= 0
}

// fitting counts the nodes of a block that have room.
func (q *query) fitting(b *block) (n int) {
	if q.all(&b.box) {
		return len(b.nodes)
	}
	for _, i := range b.nodes {
		if q.s.nodes[i].fits(q.c.demand) {
			n++
		}
	}
	return n
}

// look looks at each node of a block that may be better than the best so far.
func (q *query) look(p *podState, b *block, f *found) {
	for _, i := range b.nodes {
		x := q.s.boxes[i]
		x.image = q.c.imageOf(i)
		if q.none(&x) || !q.beats(&x, q.most(&x), f) {
			continue
		}
		n := q.s.nodes[i]
		if !n.fits(q.c.demand) || len(n.nominated) > 0 && q.s.tryNode(q.c, p, i) != nil {
			continue
		}
		if score := q.c.score(q.s, i); q.beats(&x, score, f) {
			*f = found{i, score, x.load, q.c.turn(i)}
		}
	}
}
