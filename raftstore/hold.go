package raftstore

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// holdFor is how long a leader keeps entries for a member that took over a snapshot and is sent nothing since: it may be starting again.
const holdFor = time.Minute

// holds keep the beginning of a leader's log for members that are taking over a snapshot, until they have read what follows it. Without them a
// leader that is written to cuts its log behind the snapshot while that is on its way, and sends a newer one afterwards, and so on for ever.
type holds struct {
	mu sync.Mutex
	of map[raft.ServerID]*hold
	// now is the monotonic clock.
	now func() time.Time
}

// hold is what one member needs: the log from an entry on, which the snapshot ends with or which was sent last.
type hold struct {
	index   uint64
	sending int // snapshots on their way
	moved   time.Time
}

// begin notes that a snapshot which ends at an index is on its way; the returned function is called when it is there, or lost.
func (h *holds) begin(id raft.ServerID, index uint64) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[raft.ServerID]*hold{}
	}
	o := h.of[id]
	if o == nil {
		o = &hold{}
		h.of[id] = o
	}
	o.index, o.moved = index, h.now()
	o.sending++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		o.sending--
		o.moved = h.now()
	}
}

// sent notes a message of entries, of a log that ends at last.
func (h *holds) sent(id raft.ServerID, m *raft.AppendEntriesRequest, last uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.of[id]
	switch {
	case o == nil || m.PrevLogEntry < o.index: // a heartbeat, or what went out before the snapshot
	case m.PrevLogEntry+uint64(len(m.Entries)) >= last:
		delete(h.of, id)
	default:
		o.index, o.moved = m.PrevLogEntry, h.now()
	}
}

// first is the first entry that must stay; ok is false if none must.
func (h *holds) first() (index uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, o := range h.of {
		switch {
		case o.sending == 0 && h.now().Sub(o.moved) > holdFor:
			delete(h.of, id)
		case !ok || o.index < index:
			index, ok = o.index, true
		}
	}
	return index, ok
}
