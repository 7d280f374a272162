package raftstore

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// slowSnaps holds what is written to snapshots while its gate is shut, as a slow disk does.
type slowSnaps struct {
	raft.SnapshotStore
	mu   sync.Mutex
	gate chan struct{} // nil: open
}

func (s *slowSnaps) shut() (open func()) {
	gate := make(chan struct{})
	s.set(gate)
	return func() { close(gate) }
}

func (s *slowSnaps) set(gate chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = gate
}

// Create implements raft.SnapshotStore. Only the sinks that are made while the gate is shut wait for it.
func (s *slowSnaps) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slowSink{sink, s.gate}, nil
}

type slowSink struct {
	raft.SnapshotSink
	gate chan struct{}
}

// Close implements raft.SnapshotSink.
func (s slowSink) Close() error {
	if s.gate != nil {
		<-s.gate
	}
	return s.SnapshotSink.Close()
}

// A member writes a snapshot of its own, slowly, while it takes over a newer one. When its own is finished, it must not go by that: as a leader it would
// look for the entry where its own ends, not find it in the log, and send the snapshot again and again, without a pause.
func TestSnapshotTakenOverWhileAnOlderOneIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, joiner := Config{SnapshotEntries: 10, TrailingEntries: 2, SnapshotInterval: 50 * time.Millisecond}, Config{SnapshotEntries: 1000, TrailingEntries: 2, Join: true}
		first.Bootstrap = true
		slow := &slowSnaps{}
		joiner.Storage = MemoryStorage()
		slow.SnapshotStore, joiner.Storage.snaps = joiner.Storage.snaps, slow
		one, t1 := member(t, "one", first)
		defer one.Close()
		waitLeader(t, one)
		two, t2 := member(t, "two", joiner, t1)
		defer two.Close()
		if err := one.AddNonvoter(t.Context(), "two", "two"); err != nil {
			t.Fatal(err)
		}
		propose(t, one, put("/a", "0"))
		if err := two.WaitRev(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		open := slow.shut()
		own := make(chan error, 1)
		go func() { own <- two.Snapshot() }()
		synctest.Wait()
		for _, tr := range []*raft.InmemTransport{t1, t2} {
			tr.DisconnectAll()
		}
		for i := range 50 {
			propose(t, one, put("/a", fmt.Sprint(i)))
		}
		time.Sleep(time.Second) // of the bubble: the log is cut
		low, err := one.storage.log.FirstIndex()
		if err != nil || low < 10 {
			t.Fatalf("the log begins at %d, %v: the test proves nothing", low, err)
		}
		slow.set(nil)
		t1.Connect(t2.LocalAddr(), t2)
		t2.Connect(t1.LocalAddr(), t1)
		time.Sleep(5 * time.Second) // of the bubble: the leader's snapshot has come
		open()
		if err := two.WaitRev(t.Context(), 51); err != nil {
			t.Fatal(err)
		}
		t.Logf("its own snapshot: %v", <-own)
		synctest.Wait() // raft notes what it took over after the state machine has it
		if at, err := strconv.ParseUint(two.raft.Stats()["last_snapshot_index"], 10, 64); err != nil || at < low-1 {
			t.Errorf("it goes by the snapshot of entry %d, %v, and took over one of %d or later", at, err, low-1)
		}
		if list, err := two.storage.snaps.List(); err != nil || len(list) != 1 || list[0].Index < low-1 {
			t.Errorf("its snapshots are %v, %v", list, err)
		}
	})
}
