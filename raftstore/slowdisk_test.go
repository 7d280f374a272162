package raftstore

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A leader whose disk takes seconds for a write hands over to a member whose disk does not.
func TestLeaderWithASlowDiskHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		storage := MemoryStorage()
		storage.Intercept(func(vote bool) error {
			if slow.Load() && !vote {
				time.Sleep(3 * time.Second)
			}
			return nil
		})
		one, t1 := member(t, "one", Config{Bootstrap: true, Storage: storage})
		defer one.Close()
		waitLeader(t, one)
		two, t2 := member(t, "two", Config{Join: true}, t1)
		defer two.Close()
		three, _ := member(t, "three", Config{Join: true}, t1, t2)
		defer three.Close()
		for _, id := range []string{"two", "three"} {
			if err := one.AddVoter(t.Context(), id, id); err != nil {
				t.Fatal(err)
			}
		}
		slow.Store(true)
		began := time.Now()
		propose(t, one, put("/a", "1"))
		for one.Leader().Self || one.Leader().ID == "" {
			<-one.LeaderChanged()
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("leadership moved after %s, not within 10 s", took)
		}
		slow.Store(false)
	})
}
