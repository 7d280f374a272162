package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
)

// A watch on a member that gets a snapshot in the place of the entries it missed tells every event, or that it cannot.
func TestWatchOverAnInstalledSnapshotLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := Config{SnapshotEntries: 10, TrailingEntries: 2, SnapshotInterval: 50 * time.Millisecond}
		first, joiner := short, short
		first.Bootstrap, joiner.Join = true, true
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
		w, err := two.Watch("/", 0)
		if err != nil {
			t.Fatal(err)
		}
		if events, _, err := w.Next(t.Context()); err != nil || len(events) != 1 {
			t.Fatalf("%d events, %v", len(events), err)
		}
		for _, tr := range []*raft.InmemTransport{t1, t2} {
			tr.DisconnectAll()
		}
		const writes = 50
		for i := range writes {
			propose(t, one, put("/a", fmt.Sprint(i)))
		}
		time.Sleep(time.Second) // of the bubble: the log is cut
		if err := one.Snapshot(); err != nil {
			t.Fatal(err)
		}
		if low, err := one.storage.log.FirstIndex(); err != nil || low < 10 {
			t.Fatalf("the log begins at %d, %v: the test proves nothing", low, err)
		}
		t1.Connect(t2.LocalAddr(), t2)
		t2.Connect(t1.LocalAddr(), t1)
		if err := two.WaitRev(t.Context(), 1+writes); err != nil {
			t.Fatal(err)
		}
		propose(t, one, put("/a", "last"))
		seen := 1
		for seen < 2+writes {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			events, upTo, err := w.Next(ctx)
			cancel()
			if errors.Is(err, ErrCompacted) {
				return
			}
			if seen += len(events); err != nil || uint64(seen) != upTo {
				t.Fatalf("after %d events the watch is complete up to %d, %v", seen, upTo, err)
			}
		}
	})
}

// A Next that ends without an event, because its time is over, must not pass over one that comes at that moment.
func TestWatchInSmallStepsLosesNothing(t *testing.T) {
	h := newHistory(1<<20, 1<<30)
	const events = 20000
	w, err := h.watch(Prefix("/a/"), 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range uint64(events) {
			h.publish(i+1, []*Event{{Rev: i + 1, Key: "/a/b", Rec: &Record{Key: "/a/b", ModRev: i + 1}}})
			runtime.Gosched()
		}
	})
	defer wg.Wait()
	for seen := uint64(0); seen < events; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Microsecond)
		list, upTo, err := w.Next(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if seen += uint64(len(list)); seen != upTo {
			t.Fatalf("after %d events the watch is complete up to %d", seen, upTo)
		}
	}
}

// A watch may go on from any revision, in the middle of an entry too, and tells all that comes after it.
func TestWatchGoesOnFromEveryRevision(t *testing.T) {
	s := openOne(t, "", MemoryStorage(), nil)
	defer s.Close()
	const entries, each = 4, 3
	for i := range entries {
		propose(t, s, put("/a", fmt.Sprint(i)), put("/b", fmt.Sprint(i)), put("/c", fmt.Sprint(i)))
	}
	for from := range uint64(entries * each) {
		w, err := s.Watch("/", from)
		if err != nil {
			t.Fatal(err)
		}
		events, upTo, err := w.Poll()
		if err != nil || uint64(len(events)) != entries*each-from || events[0].Rev != from+1 || upTo != entries*each {
			t.Errorf("from revision %d: %d events up to %d, %v", from, len(events), upTo, err)
		}
	}
}

// An older snapshot that is finished after a newer one (its disk was slow while the leader's was installed) must not take its place.
func TestOlderSnapshotFinishedLateTakesNoPlace(t *testing.T) {
	dir := t.TempDir()
	d := &durable{ids: &memoryIdentity{}}
	s := &snapFolder{fs: disk.OS{}, dir: dir, folder: "f", log: slog.New(slog.DiscardHandler), taken: d.snapshotted}
	create := func(index uint64) raft.SnapshotSink {
		sink, err := s.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		sink.(*snapSink).own = true // what is in it does not matter
		if _, err := sink.Write([]byte("state")); err != nil {
			t.Fatal(err)
		}
		return sink
	}
	older, newer := create(10), create(20)
	if err := errors.Join(newer.Close(), older.Close()); err != nil {
		t.Fatal(err)
	}
	if _, rc, err := s.Open(newer.ID()); err != nil {
		t.Errorf("the newer snapshot: %v", err)
	} else {
		rc.Close()
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].Index != 20 {
		t.Errorf("the snapshots are %v, %v; want the one of entry 20", list, err)
	}
	if d.snap.index != 20 {
		t.Errorf("the newest snapshot is taken to hold entries up to %d, not 20", d.snap.index)
	}
}
