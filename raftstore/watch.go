package raftstore

import (
	"context"
	"fmt"
	"slices"

	"reconcile/internal/mutant"
)

// Watch is a place in the shared history. It has one user at a time and needs no closing.
type Watch struct {
	h    *history
	span Span
	// after is the revision up to which everything has been delivered; next the number of the event to look at.
	after uint64
	next  uint64
	// backlog are events that were read from the state, because the ring holds them no longer; upTo is the revision up to which the watch
	// is complete when they are delivered.
	backlog []*Event
	upTo    uint64
	// out is what the last call returned, used again by the next.
	out []*Event

	// group is whose watch it is, or nil. Its place among the waits is wait.watches[at]: under waits.mu.
	group *WatchGroup
	wait  *wait
	at    int
	// idle tells that it has looked at everything, and waits. The event that ends that is woken, or its number is 0; what came before the
	// revision is not for it. Under history.mu: the watch's own user writes them under the read lock, who publishes under the other.
	idle  bool
	woken struct{ number, rev uint64 }
}

// watchLimit is about how many events one Next returns; those of one revision stay together. maxBacklog is how many a watch reads from
// the state at once, with the same exception.
const (
	watchLimit = 1000
	maxBacklog = 16 << 10
)

// watch starts after revision rev.
func (h *history) watch(span Span, rev uint64) (*Watch, error) {
	w := &Watch{h: h, span: span, after: rev}
	h.mu.RLock()
	inRing := rev >= h.floor
	w.next = h.seekLocked(rev)
	if mutant.DropOnReconnect && rev > 0 {
		w.next++
	}
	h.mu.RUnlock()
	if inRing {
		return w, nil
	}
	if err := w.catchUp(); err != nil {
		return nil, err
	}
	return w, nil
}

// Next blocks until there are events of the span's keys, and returns them in the order of revisions, those of one revision together, with the
// revision up to which the watch is now complete: another Watch may go on from it, or from the Rev of any event. The slice is valid until
// the next call. If ctx ends first, it returns no events, the revision (a progress notification) and ctx's error, and may be called
// again. A watch that was too slow for the ring reads on in the state's versions; ErrCompacted tells that those were compacted beyond its
// place, ErrStopped that the store has stopped.
func (w *Watch) Next(ctx context.Context) ([]*Event, uint64, error) {
	for {
		events, _, err := w.Poll()
		if err != nil || len(events) > 0 {
			return events, w.after, err
		}
		g := w.h.waits.join(w.span)
		if !w.atEnd() {
			w.h.waits.leave(g)
			continue
		}
		select {
		case <-g.done:
			// Nothing before that event was for this watch.
			w.next = max(w.next, g.number)
			w.after = max(w.after, max(g.rev, 1)-1)
		case <-ctx.Done():
			w.advance(g) // as long as it would be woken
			w.h.waits.leave(g)
			return nil, w.after, ctx.Err()
		}
	}
}

// atEnd tells whether there is nothing that the watch has not looked at.
func (w *Watch) atEnd() bool {
	w.h.mu.RLock()
	defer w.h.mu.RUnlock()
	return w.h.closed == nil && w.next == w.h.first+uint64(len(w.h.events))
}

// advance moves a watch that waited in vain to the end: no event since was for it.
func (w *Watch) advance(g *shot) {
	w.h.mu.RLock()
	defer w.h.mu.RUnlock()
	select {
	case <-g.done: // one came just now: the next call finds it
	default:
		w.next = w.h.first + uint64(len(w.h.events))
		w.after = max(w.after, w.h.rev)
	}
}

// Poll is Next without blocking: no events and no error mean that there is none now.
func (w *Watch) Poll() ([]*Event, uint64, error) {
	w.out = w.out[:0]
	for {
		if len(w.backlog) > 0 {
			n := wholeRevisions(w.backlog, watchLimit)
			w.out = append(w.out, w.backlog[:n]...)
			w.backlog = w.backlog[n:]
			if w.after = w.out[n-1].Rev; len(w.backlog) == 0 {
				w.after, w.backlog = max(w.after, w.upTo), nil
				w.seek()
			}
			return w.out, w.after, nil
		}
		behind, err := w.take()
		if err != nil || !behind {
			return w.out, w.after, err
		}
		if err := w.catchUp(); err != nil {
			return nil, w.after, err
		}
	}
}

// wholeRevisions is how many of the events to take, limit or a few more: those of one revision stay together.
func wholeRevisions(events []*Event, limit int) int {
	n := min(limit, len(events))
	for n > 0 && n < len(events) && events[n].Rev == events[n-1].Rev {
		n++
	}
	return n
}

// take fills out from the ring. behind tells that the ring no longer holds the watch's place.
func (w *Watch) take() (behind bool, err error) {
	h := w.h
	h.mu.RLock()
	defer h.mu.RUnlock()
	w.skipLocked()
	if w.next < h.first || w.after < h.floor && w.next == h.first {
		return true, nil
	}
	end := h.first + uint64(len(h.events))
	for w.next < end {
		e := h.events[w.next-h.first]
		if n := len(w.out); n >= watchLimit && w.out[n-1].Rev != e.Rev {
			return false, nil
		}
		w.next++
		if e.Rev <= w.after && len(w.out) == 0 {
			continue // a watch from a revision that was to come
		}
		if w.span.Contains(e.Key) {
			w.out = append(w.out, e)
			w.after = max(w.after, e.Rev)
		}
	}
	w.after = max(w.after, h.rev)
	if len(w.out) == 0 && h.closed != nil {
		return false, h.closed
	}
	w.idle = w.group != nil
	return false, nil
}

// seek takes the place in the ring behind after.
func (w *Watch) seek() {
	w.h.mu.RLock()
	defer w.h.mu.RUnlock()
	w.next = 0
	if w.after >= w.h.floor {
		w.next = w.h.seekLocked(w.after)
	}
}

// catchUp reads from the state what came after w.after, and then takes the place in the ring behind it.
func (w *Watch) catchUp() error {
	v := w.h.view()
	if w.after+1 < v.Floor() {
		return w.compacted(v)
	}
	events, upTo, gone := w.h.walks.after(w.h.view, w.span, w.after)
	if gone || w.after+1 < v.Floor() { // the history may have been cut meanwhile
		return w.compacted(v)
	}
	w.upTo = upTo
	if n := wholeRevisions(events, maxBacklog); n < len(events) {
		events, w.upTo = slices.Clone(events[:n]), events[n-1].Rev
	}
	if w.backlog = events; len(events) == 0 {
		w.after = max(w.after, w.upTo)
		w.seek()
	}
	return nil
}

func (w *Watch) compacted(v *View) error {
	return fmt.Errorf("watch %q after revision %d: %w: the oldest is %d", w.span.From, w.after, ErrCompacted, v.Floor())
}
