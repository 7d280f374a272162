package raftstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A follower that was told how far it must have come shows a lease that was granted, and a compaction, although neither takes a revision.
func TestReadPointHoldsWhatTakesNoRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, _ := linked(t, "a", "b", "c")
		a, b := stores[0], stores[1]
		propose(t, a, put("/x", "1"))
		propose(t, a, put("/x", "2"))
		proven := false
		for id := int64(1); id < 50 && !proven; id++ {
			propose(t, a, LeaseGrant(id, 60))
			point := readPoint(t, a)
			_, early := b.View().Lease(id) // now and then the follower hears of the commit with another message
			proven = !early
			waitPoint(t, b, point)
			if _, ok := b.View().Lease(id); !ok {
				t.Errorf("the follower lacks lease %d, which was granted before it was asked", id)
			}
		}
		if !proven {
			t.Error("the follower always heard of the commit at once: the test proves nothing")
		}
		if err := a.Compact(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		waitPoint(t, b, readPoint(t, a))
		if have := b.View().Floor(); have != 2 {
			t.Errorf("the follower's history begins at %d after a compaction at 2", have)
		}
	})
}

func readPoint(t *testing.T, s *Store) ReadPoint {
	t.Helper()
	p, err := s.ReadPoint(t.Context(), Voice{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func waitPoint(t *testing.T, s *Store, p ReadPoint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.WaitPoint(ctx, p); err != nil {
		t.Fatal(err)
	}
}

// A leader whose state came from a snapshot does not ask for an entry that other members never hear of: snapshots may end with a barrier.
func TestReadPointAfterASnapshotThatEndsWithABarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, t1 := member(t, "one", Config{Bootstrap: true})
		waitLeader(t, one)
		two, t2 := member(t, "two", Config{Join: true}, t1)
		defer func() { two.Close() }()
		if err := one.AddNonvoter(t.Context(), "two", "two"); err != nil {
			t.Fatal(err)
		}
		propose(t, one, put("/a", "1"))
		if err := one.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		end := one.Applied()
		waitPoint(t, two, readPoint(t, one))
		if err := one.Snapshot(); err != nil {
			t.Fatal(err)
		}
		if list, err := one.storage.snaps.List(); err != nil || len(list) == 0 || list[0].Index != end {
			t.Fatalf("the snapshot ends at %v (%v), not with the barrier at %d: the test proves nothing", list, err, end)
		}
		storage := one.storage
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
		one, _ = member(t, "one", Config{Storage: storage}, t2)
		defer one.Close()
		waitLeader(t, one)
		waitPoint(t, two, readPoint(t, one))
	})
}
