package raftstore

import (
	"slices"
	"sync"
)

// waits is where watches wait for events of their span: found by key, by prefix or, where a span is neither, by looking at all such.
// A span that nobody waits for takes no memory.
type waits struct {
	mu       sync.Mutex
	keys     map[string]*wait
	prefixes map[string]*wait
	spans    map[Span]*wait
	// lengths are those of the prefixes, in order, with how many prefixes have each.
	lengths []prefixLength
	// found is the last answer of of, used again by the next.
	found []*wait
	// round counts the calls of wake.
	round uint64
}

type prefixLength struct{ length, count int }

func newWaits() waits {
	return waits{keys: map[string]*wait{}, prefixes: map[string]*wait{}, spans: map[Span]*wait{}}
}

// wait is one span that is waited for.
type wait struct {
	span Span
	// shot is what single watches wait for: the next event. watches are those of groups, which stay from event to event.
	shot    *shot
	watches []*Watch
	// round is the last one of wake that told the watches.
	round uint64
}

// shot is one wait for the next event of a span. done is closed then; number and rev are that event's, or number is 0 if only the watch is
// to look again.
type shot struct {
	of          *wait
	done        chan struct{}
	number, rev uint64
	waiters     int
}

// place is where the wait for a span is kept: its map (nil for w.spans) and the key in it.
func (w *waits) place(sp Span) (m map[string]*wait, key string, prefix bool) {
	switch {
	case sp.To == sp.From+"\x00":
		return w.keys, sp.From, false
	case sp.To == prefixEnd(sp.From):
		return w.prefixes, sp.From, true
	}
	return nil, "", false
}

// find is the wait for a span, made if there is none.
func (w *waits) find(sp Span) *wait {
	m, key, prefix := w.place(sp)
	g := w.spans[sp]
	if m != nil {
		g = m[key]
	}
	if g != nil {
		return g
	}
	g = &wait{span: sp}
	switch {
	case m == nil:
		w.spans[sp] = g
	case prefix:
		w.count(len(key), 1)
		fallthrough
	default:
		m[key] = g
	}
	return g
}

// join waits for the next event of a span; leave or the event ends it.
func (w *waits) join(sp Span) *shot {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.find(sp)
	if g.shot == nil {
		g.shot = &shot{of: g, done: make(chan struct{})}
	}
	g.shot.waiters++
	return g.shot
}

// leave gives up waiting.
func (w *waits) leave(s *shot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-s.done:
		return // an event has taken it out
	default:
	}
	if s.waiters--; s.waiters == 0 {
		s.of.shot = nil
		w.tidy(s.of)
	}
}

// stay tells a watch of its span's events until quit.
func (w *waits) stay(watch *Watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.find(watch.span)
	watch.wait, watch.at = g, len(g.watches)
	g.watches = append(g.watches, watch)
}

func (w *waits) quit(watch *Watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := watch.wait
	last := g.watches[len(g.watches)-1]
	g.watches[watch.at], last.at = last, watch.at
	g.watches[len(g.watches)-1] = nil
	g.watches = g.watches[:len(g.watches)-1]
	w.tidy(g)
}

// tidy forgets a span that nobody waits for.
func (w *waits) tidy(g *wait) {
	if g.shot != nil || len(g.watches) > 0 {
		return
	}
	m, key, prefix := w.place(g.span)
	if m == nil {
		delete(w.spans, g.span)
		return
	}
	delete(m, key)
	if prefix {
		w.count(len(key), -1)
	}
}

// count notes that there is one prefix more, or one less, of a length.
func (w *waits) count(length, by int) {
	i, found := slices.BinarySearchFunc(w.lengths, length, func(p prefixLength, n int) int { return p.length - n })
	if !found {
		w.lengths = slices.Insert(w.lengths, i, prefixLength{length: length})
	}
	if w.lengths[i].count += by; w.lengths[i].count == 0 {
		w.lengths = slices.Delete(w.lengths, i, i+1)
	}
}

// wake tells the waits that one of the events concerns. The first of them has that number. history.mu is held.
func (w *waits) wake(number uint64, events []*Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.round++
	for i, e := range events {
		if len(w.keys)+len(w.prefixes)+len(w.spans) == 0 {
			return
		}
		for _, g := range w.of(e.Key) {
			w.tell(g, number+uint64(i), e.Rev)
		}
	}
}

// of are the waits whose span holds a key.
func (w *waits) of(key string) []*wait {
	out := w.found[:0]
	if g := w.keys[key]; g != nil {
		out = append(out, g)
	}
	for _, l := range w.lengths {
		if l.length > len(key) {
			break
		}
		if g := w.prefixes[key[:l.length]]; g != nil {
			out = append(out, g)
		}
	}
	for sp, g := range w.spans {
		if sp.Contains(key) {
			out = append(out, g)
		}
	}
	w.found = out
	return out
}

// tell ends the shot of a wait and makes its watches ready. The watches are told of the first of a round's events only.
func (w *waits) tell(g *wait, number, rev uint64) {
	if s := g.shot; s != nil {
		s.number, s.rev, g.shot = number, rev, nil
		close(s.done)
	}
	if g.round != w.round {
		g.round = w.round
		for _, watch := range g.watches {
			watch.wakeLocked(number, rev)
		}
	}
	w.tidy(g)
}

// wakeAll makes all look again, who have seen everything before revision rev. history.mu is held.
func (w *waits) wakeAll(rev uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.round++
	for _, m := range []map[string]*wait{w.keys, w.prefixes} {
		for _, g := range m {
			w.tell(g, 0, rev)
		}
	}
	for _, g := range w.spans {
		w.tell(g, 0, rev)
	}
}
