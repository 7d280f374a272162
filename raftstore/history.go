package raftstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// Event is one change of one key.
type Event struct {
	// Rev is the revision of the change.
	Rev uint64
	// Key is the key that changed.
	Key string
	// Rec is the new version. For a deletion it is a record without a value that stands for it (Deleted).
	Rec *Record
	// Prev is the version before, nil for a creation.
	Prev *Record
	// Deleted tells that the key was removed.
	Deleted bool
}

func (e *Event) size() int {
	n := e.Rec.size()
	if e.Prev != nil {
		n += e.Prev.size()
	}
	return n
}

// history is the ring of the last events, shared by all watches: a watch is only a place in it, so that a slow one costs no
// memory. It is cut at the far end when it holds too many events or bytes; the revision up to which it is cut is the floor.
type history struct {
	mu     sync.Mutex
	events []Event // in order; events[0] is number first
	first  uint64  // number of events[0], counted over all time
	bytes  int
	rev    uint64 // revision of the last whole entry
	floor  uint64 // events with a revision <= floor are gone
	closed error

	maxEvents, maxBytes int
	wake                map[string]*signal // by bucket of the watched prefix
}

// signal is a broadcast: the channel is closed and replaced when something happens.
type signal struct{ ch chan struct{} }

func newHistory(maxEvents, maxBytes int) *history {
	return &history{maxEvents: maxEvents, maxBytes: maxBytes, wake: map[string]*signal{}}
}

// bucket is the part of a key or prefix by which watches are woken: up to the second slash after the first one
// ("/registry/pods/"). A prefix that is shorter is woken by everything.
func bucket(key string) string {
	if len(key) < 2 {
		return ""
	}
	i := strings.IndexByte(key[1:], '/')
	if i < 0 {
		return ""
	}
	j := strings.IndexByte(key[i+2:], '/')
	if j < 0 {
		return ""
	}
	return key[:i+2+j+1]
}

// publish appends one entry's events and wakes the watches that may want them.
func (h *history) publish(rev uint64, events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rev = rev
	if len(events) == 0 {
		return
	}
	h.events = append(h.events, events...)
	for i := range events {
		h.bytes += events[i].size()
		h.wakeLocked(bucket(events[i].Key))
	}
	h.wakeLocked("")
	h.trimLocked()
}

func (h *history) wakeLocked(bucket string) {
	if s := h.wake[bucket]; s != nil {
		close(s.ch)
		delete(h.wake, bucket)
	}
}

func (h *history) wakeAllLocked() {
	for b := range h.wake {
		h.wakeLocked(b)
	}
}

// trimLocked drops the oldest events until the bounds hold. Whole entries need not stay together: a watch may resume inside one.
func (h *history) trimLocked() {
	n := 0
	for n < len(h.events)-1 && (len(h.events)-n > h.maxEvents || h.bytes > h.maxBytes) {
		h.bytes -= h.events[n].size()
		h.floor = h.events[n].Rev
		n++
	}
	h.dropLocked(n)
}

func (h *history) dropLocked(n int) {
	clear(h.events[:n])
	h.events = h.events[n:]
	h.first += uint64(n)
}

// compact forgets the events up to rev.
func (h *history) compact(rev uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.events) && h.events[n].Rev <= rev {
		h.bytes -= h.events[n].size()
		n++
	}
	h.dropLocked(n)
	h.floor = max(h.floor, min(rev, h.rev))
}

// reset is for a state that came from elsewhere: nothing before rev can be told.
func (h *history) reset(rev uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first += uint64(len(h.events))
	h.events, h.bytes, h.rev, h.floor = nil, 0, rev, rev
	h.wakeAllLocked()
}

func (h *history) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed == nil {
		h.closed = err
	}
	h.wakeAllLocked()
}

// Watch is a place in the shared history. It has one user at a time and needs no closing.
type Watch struct {
	h      *history
	prefix string
	bucket string
	// after is the revision up to which everything has been delivered; next the number of the event to look at.
	after uint64
	next  uint64
	// limit bounds how many events one Next returns.
	limit int
}

// watch starts after revision rev.
func (h *history) watch(prefix string, rev uint64) (*Watch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rev < h.floor {
		return nil, fmt.Errorf("watch %s from revision %d: %w: the oldest is %d", prefix, rev, ErrCompacted, h.floor)
	}
	return &Watch{h: h, prefix: prefix, bucket: bucket(prefix), after: rev, next: h.seekLocked(rev), limit: 1000}, nil
}

// seekLocked finds the number of the first event after rev.
func (h *history) seekLocked(rev uint64) uint64 {
	lo, hi := 0, len(h.events)
	for lo < hi {
		mid := (lo + hi) / 2
		if h.events[mid].Rev <= rev {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return h.first + uint64(lo)
}

// Next blocks until there are events whose keys begin with the prefix, and returns them in the order of revisions, with the
// revision up to which the watch is now complete: another Watch may go on from it, or from the Rev of any event. If ctx ends
// first, it returns no events, the revision and ctx's error, and may be called again. ErrCompacted tells that the history was cut
// beyond the place; ErrStopped that the store has stopped.
func (w *Watch) Next(ctx context.Context) ([]Event, uint64, error) {
	for {
		events, wait, err := w.poll()
		if err != nil || len(events) > 0 {
			return events, w.after, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, w.after, ctx.Err()
		}
	}
}

// Poll is Next without blocking: no events and no error mean that there is none now.
func (w *Watch) Poll() ([]Event, uint64, error) {
	events, _, err := w.poll()
	return events, w.after, err
}

// poll takes what is there, and a channel that is closed when more may be.
func (w *Watch) poll() ([]Event, <-chan struct{}, error) {
	h := w.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.after < h.floor && w.next < h.first {
		return nil, nil, fmt.Errorf("watch %s after revision %d: %w: the oldest is %d", w.prefix, w.after, ErrCompacted, h.floor)
	}
	var out []Event
	for w.next < h.first+uint64(len(h.events)) && len(out) < w.limit {
		e := h.events[w.next-h.first]
		w.next++
		if e.Rev <= w.after {
			continue // the watch began ahead of the state, which has only now come here
		}
		w.after = e.Rev
		if strings.HasPrefix(e.Key, w.prefix) {
			out = append(out, e)
		}
	}
	if w.next == h.first+uint64(len(h.events)) {
		w.after = max(w.after, h.rev)
	}
	if len(out) > 0 {
		return out, nil, nil
	}
	if h.closed != nil {
		return nil, nil, h.closed
	}
	return nil, h.signalLocked(w.bucket), nil
}

// signalLocked is the channel that is closed at the next event of the bucket.
func (h *history) signalLocked(bucket string) <-chan struct{} {
	s := h.wake[bucket]
	if s == nil {
		s = &signal{ch: make(chan struct{})}
		h.wake[bucket] = s
	}
	return s.ch
}
