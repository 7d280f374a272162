package raftstore

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaderIsMissedInTime: when the leader falls silent another one leads after the election timeout and at most a third more, wherever raft's own timers
// stand.
func TestLeaderIsMissedInTime(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			const timeout = 10 * time.Second // linked's
			stores, links := linked(t, "a", "b", "c")
			propose(t, stores[0], put("/x", "1"))
			for _, s := range stores[1:] {
				if err := s.WaitRev(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(7 * timeout / 2)
			links[0].sever(links[1], links[2])
			began := time.Now()
			for !stores[1].Leader().Self && !stores[2].Leader().Self {
				if time.Since(began) > 4*timeout/3 {
					t.Fatalf("nobody leads after %s", time.Since(began))
				}
				time.Sleep(timeout / 100)
			}
		})
	}
}
