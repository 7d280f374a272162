package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
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
