package raftstore

import (
	"sync"
	"sync/atomic"
)

// Event is one change of one key. It is shared by all watches and never changes, but for the slot of Encoded.
type Event struct {
	// Rev is the revision of the change.
	Rev uint64
	// Key is the key that changed.
	Key string
	// Rec is the new version. For a deletion it is a record without a value that stands for it (Deleted).
	Rec *Record
	// Prev is the version before; nil for a creation, and where a compaction has taken it (then Rec.CreateRev is not Rev).
	Prev *Record
	// Deleted tells that the key was removed.
	Deleted bool

	encoded atomic.Pointer[[]byte]
}

// PrevLost tells that there was a version before, and that a compaction has taken it.
func (e *Event) PrevLost() bool { return e.Prev == nil && (e.Deleted || e.Rec.CreateRev != e.Rev) }

// Encoded returns what encode made of the event the first time it was asked, for all watches together: it must always make the same of it.
// Nobody may change the bytes.
func (e *Event) Encoded(encode func(*Event) []byte) []byte {
	if p := e.encoded.Load(); p != nil {
		return *p
	}
	b := encode(e)
	e.encoded.CompareAndSwap(nil, &b)
	return *e.encoded.Load()
}

// size is about how many bytes the event holds on to, with its encoding.
func (e *Event) size() int {
	n := eventSize + e.Rec.size() + len(e.Key) + len(e.Rec.Value)
	if e.Prev != nil {
		n += e.Prev.size()
	}
	return n
}

const eventSize = 80

// history is the ring of the last events, shared by all watches: a watch is only a place in it, so that a slow one costs no
// memory. It is cut at the far end when it holds too many events or bytes. What it no longer holds, watches read from the versions
// that the state keeps, as long as those are not compacted.
type history struct {
	// view is the state, for watches that the ring no longer serves. It is never called under a lock.
	view func() *View

	mu     sync.RWMutex
	events []*Event // in order; events[0] is number first
	first  uint64   // number of events[0], counted over all time
	bytes  int
	rev    uint64 // revision of the last whole entry
	floor  uint64 // events with a revision <= floor are gone
	closed error

	maxEvents, maxBytes int
	waits               waits
	walks               *pastWalks
}

func newHistory(maxEvents, maxBytes int) *history {
	return &history{maxEvents: maxEvents, maxBytes: maxBytes, waits: newWaits(), walks: newPastWalks()}
}

// publish appends one entry's events and wakes the watches that want them. It is called by one goroutine at a time.
func (h *history) publish(rev uint64, events []*Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rev = rev
	number := h.first + uint64(len(h.events))
	h.events = append(h.events, events...)
	for _, e := range events {
		h.bytes += e.size()
	}
	h.trimLocked()
	// A watch registers before it looks whether it is at the end: what it did not see, wakes it here. Under the lock, so that a watch that
	// gives up waiting finds either no event or that it was woken.
	h.waits.wake(number, events)
}

// trimLocked drops the oldest events until the bounds hold.
func (h *history) trimLocked() {
	n := 0
	for n < len(h.events)-1 && (len(h.events)-n > h.maxEvents || h.bytes > h.maxBytes) {
		h.bytes -= h.events[n].size()
		n++
	}
	h.dropLocked(n)
}

func (h *history) dropLocked(n int) {
	if n == 0 {
		return
	}
	h.floor = h.events[n-1].Rev
	for i, e := range h.events[:n] {
		if e.Prev != nil {
			e.Prev.forget()
		}
		h.events[i] = nil
	}
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

// reset is for a state that came from elsewhere: the ring is empty then, and what was before rev is in the state only.
func (h *history) reset(rev uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first += uint64(len(h.events)) + 1 // nobody stands at the new end
	seen := h.rev
	h.events, h.bytes, h.rev, h.floor = nil, 0, rev, rev
	h.waits.wakeAll(seen + 1)
}

func (h *history) close(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed == nil {
		h.closed = err
	}
	h.waits.wakeAll(h.rev + 1)
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
