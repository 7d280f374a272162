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
}

type prefixLength struct{ length, count int }

func newWaits() waits {
	return waits{keys: map[string]*wait{}, prefixes: map[string]*wait{}, spans: map[Span]*wait{}}
}

// wait is one span that is waited for. done is closed at its first event; number and rev are that event's then, or 0 if only the watch is
// to look again.
type wait struct {
	span        Span
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

// join waits for the span; leave or an event ends it.
func (w *waits) join(sp Span) *wait {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, key, prefix := w.place(sp)
	g := w.spans[sp]
	if m != nil {
		g = m[key]
	}
	if g == nil {
		g = &wait{span: sp, done: make(chan struct{})}
		switch {
		case m == nil:
			w.spans[sp] = g
		case prefix:
			w.count(len(key), 1)
			fallthrough
		default:
			m[key] = g
		}
	}
	g.waiters++
	return g
}

// leave gives up waiting.
func (w *waits) leave(g *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-g.done:
		return // an event has taken it out
	default:
	}
	if g.waiters--; g.waiters == 0 {
		w.remove(g)
	}
}

func (w *waits) remove(g *wait) {
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

// wake ends the waits that one of the events concerns. The first of them has that number.
func (w *waits) wake(number uint64, events []*Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, e := range events {
		if len(w.keys)+len(w.prefixes)+len(w.spans) == 0 {
			return
		}
		for _, g := range w.of(e.Key) {
			w.end(g, number+uint64(i), e.Rev)
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

func (w *waits) end(g *wait, number, rev uint64) {
	g.number, g.rev = number, rev
	w.remove(g)
	close(g.done)
}

func (w *waits) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range []map[string]*wait{w.keys, w.prefixes} {
		for _, g := range m {
			w.end(g, 0, 0)
		}
	}
	for _, g := range w.spans {
		w.end(g, 0, 0)
	}
}
