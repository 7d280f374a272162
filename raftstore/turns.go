package raftstore

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// errOutdated tells that a snapshot of this member's own was given up because one that reaches further came from the leader meanwhile.
var errOutdated = errors.New("a newer snapshot came from the leader meanwhile")

// turns lets raft finish one snapshot at a time. raft writes its own beside the one that a leader sends, and whichever is finished last is the one it
// goes by, also where that is the older one: as a leader it then looks in its log for the entry where that ends, does not find it, and sends its newest
// snapshot again and again without a pause. So an own one that was overtaken fails, and one that comes waits until the own one that is nearly finished is.
type turns struct {
	raft.SnapshotStore

	mu     sync.Mutex
	newest position      // that is finished, or on its way to be
	own    chan struct{} // closed when raft has noted the own one that is being written; nil: none is
}

// turnSink is one snapshot's. It implements raft.SnapshotSink.
type turnSink struct {
	raft.SnapshotSink
	t     *turns
	at    position
	noted chan struct{} // turns.own, of a snapshot that is this member's own
}

// Create implements raft.SnapshotStore.
func (t *turns) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, tr raft.Transport) (raft.SnapshotSink, error) {
	sink, err := t.SnapshotStore.Create(v, index, term, c, ci, tr)
	if err != nil {
		return nil, err
	}
	return &turnSink{SnapshotSink: sink, t: t, at: position{term, index}}, nil
}

// mine tells that the snapshot is this member's own; noted is to be called when raft has noted that it is finished, or failed.
func (k *turnSink) mine() (noted func()) {
	if s, ok := k.SnapshotSink.(*snapSink); ok {
		s.own = true
	}
	k.noted = make(chan struct{})
	k.t.mu.Lock()
	defer k.t.mu.Unlock()
	k.t.own = k.noted
	return func() {
		k.t.mu.Lock()
		defer k.t.mu.Unlock()
		k.t.own = nil
		close(k.noted)
	}
}

// outdated is not nil for an own snapshot that was overtaken.
func (k *turnSink) outdated() error {
	k.t.mu.Lock()
	defer k.t.mu.Unlock()
	if k.noted != nil && k.at.before(k.t.newest) {
		return fmt.Errorf("the snapshot of entry %d: %w, of entry %d", k.at.index, errOutdated, k.t.newest.index)
	}
	return nil
}

// Write implements io.Writer.
func (k *turnSink) Write(p []byte) (int, error) {
	if err := k.outdated(); err != nil {
		return 0, err
	}
	return k.SnapshotSink.Write(p)
}

// Close implements raft.SnapshotSink. It waits for an own snapshot if it is not one.
func (k *turnSink) Close() error {
	if err := k.outdated(); err != nil {
		return errors.Join(err, k.Cancel())
	}
	before, own := k.t.reach(k.at)
	if k.noted == nil && own != nil {
		<-own
	}
	err := k.SnapshotSink.Close()
	if err != nil {
		k.t.failed(k.at, before)
	}
	return err
}

// reach notes that a snapshot is being finished. It returns what was the newest, and what to wait for.
func (t *turns) reach(at position) (before position, own chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.newest
	if t.newest.before(at) {
		t.newest = at
	}
	return before, t.own
}

// failed notes that a snapshot could not be finished.
func (t *turns) failed(at, before position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newest == at {
		t.newest = before
	}
}
