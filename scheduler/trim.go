package scheduler

import (
	"cmp"
	"slices"
)

// What classes may hold, in rows: a row is a class and a node, some 25 bytes. What is dropped is made again when it is needed.
const (
	maxRows     = 1 << 23 // within a call
	keptRows    = 1 << 22 // from one call to the next
	classWeight = 1 << 10 // of any class besides, lest there are so many that to look through them takes long
)

// forgetClasses forgets all that was decided.
func (s *Snapshot) forgetClasses() {
	clear(s.classes)
	s.latest = nil
	clear(s.shapes)
	s.weight = 0
}

// dropClasses forgets the classes that another view may treat otherwise.
func (s *Snapshot) dropClasses() {
	if s.fleeting {
		s.keepClasses(func(c *class) bool { return !c.fleeting() })
		s.fleeting = false
	}
}

// fleeting tells whether another view may treat the class otherwise, though nothing that is looked at changed.
func (c *class) fleeting() bool { return c.storage != nil || c.all != nil || c.weight.load > 0 }

// keepClasses forgets the classes that keep says no to, and the shapes that no class has any more.
func (s *Snapshot) keepClasses(keep func(*class) bool) {
	s.weight = 0
	held := map[*shape]bool{}
	s.latest = nil
	for h, list := range s.classes {
		list = slices.DeleteFunc(list, func(c *class) bool { return !keep(c) })
		if len(list) == 0 {
			delete(s.classes, h)
			continue
		}
		s.classes[h] = list
		for _, c := range list {
			held[c.shape] = true
			s.weight += c.rows()
		}
	}
	for h, list := range s.shapes {
		if list = slices.DeleteFunc(list, func(sh *shape) bool { return !held[sh] }); len(list) == 0 {
			delete(s.shapes, h)
			continue
		}
		s.shapes[h] = list
		s.weight += 2 * len(list) * len(s.nodes)
	}
}

// rows is what a class holds besides its shape.
func (c *class) rows() int {
	n := classWeight
	if c.filled {
		n += len(c.tie)
	}
	if c.failure != nil {
		n += len(c.tie)
	}
	return n
}

// trim forgets the classes that were not used for longest, until the rest hold no more than so many rows with their shapes.
func (s *Snapshot) trim(most int) {
	if s.weight <= most {
		return
	}
	var all []*class
	for _, list := range s.classes {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b *class) int { return cmp.Compare(b.used, a.used) })
	sum, oldest := 0, 0
	shapes := map[*shape]bool{}
	for i, c := range all {
		if sum += c.rows(); !shapes[c.shape] {
			shapes[c.shape] = true
			sum += 2 * len(s.nodes)
		}
		if sum > most && i > 0 {
			break
		}
		oldest = c.used
	}
	s.keepClasses(func(c *class) bool { return c.used >= oldest })
}
