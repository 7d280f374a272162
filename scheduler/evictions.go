package scheduler

// evictions are the nodes of a failure on which room can be made, in a heap with the least harm first, so that one more pod that fits nowhere
// costs a look at the nodes that changed and not at all of them.
type evictions struct {
	due   []int32 // nodes that are to be tried again; some more than once
	order []int32
	place []int32 // by node: where it is in order, -1 if it is not
}

func newEvictions(nodes int) evictions {
	e := evictions{place: make([]int32, nodes)}
	for i := range e.place {
		e.place[i] = -1
	}
	return e
}

// leastOfClass is the best of the class's nodes, -1 if there is none.
func (s *Snapshot) leastOfClass(c *class) int32 {
	f := c.failure
	for _, at := range f.due {
		f.drop(c, at)
		if r := f.refusals[at]; r != nil && !r.unresolvable && s.row(c, at).why == nil {
			f.push(c, at)
		}
	}
	f.due = f.due[:0]
	if len(f.order) == 0 {
		return -1
	}
	return f.order[0]
}

// row is what would have to go from a node for a pod of the class.
func (s *Snapshot) row(c *class, at int32) *eviction {
	f := c.failure
	if f.rows[at] == nil {
		f.rows[at] = s.dryRun(c, f.asker, at)
	}
	return f.rows[at]
}

// harms tells whether node a is to be taken before b.
func (f *failure) harms(c *class, a, b int32) bool {
	k := f.rows[a].compare(f.rows[b])
	return k < 0 || k == 0 && c.turn(a) < c.turn(b)
}

func (f *failure) push(c *class, at int32) {
	f.place[at] = int32(len(f.order))
	f.order = append(f.order, at)
	f.rise(c, f.place[at])
}

// drop takes a node out, whose row must still be what it was put in with.
func (f *failure) drop(c *class, at int32) {
	x := f.place[at]
	if x < 0 {
		return
	}
	last := int32(len(f.order) - 1)
	f.swap(x, last)
	f.order = f.order[:last]
	f.place[at] = -1
	if x < last {
		f.rise(c, x)
		f.sink(c, x)
	}
}

func (f *failure) swap(x, y int32) {
	f.order[x], f.order[y] = f.order[y], f.order[x]
	f.place[f.order[x]], f.place[f.order[y]] = x, y
}

func (f *failure) rise(c *class, x int32) {
	for x > 0 {
		parent := (x - 1) / 2
		if !f.harms(c, f.order[x], f.order[parent]) {
			return
		}
		f.swap(x, parent)
		x = parent
	}
}

func (f *failure) sink(c *class, x int32) {
	for {
		best := x
		for child := 2*x + 1; child <= 2*x+2 && int(child) < len(f.order); child++ {
			if f.harms(c, f.order[child], f.order[best]) {
				best = child
			}
		}
		if best == x {
			return
		}
		f.swap(x, best)
		x = best
	}
}
