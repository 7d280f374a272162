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
				time.Sleep(slowWrite + 10*time.Millisecond) // too short for an election
			}
			return nil
		})
		one, _, _ := ledOn(t, storage)
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

// A write that does not come back holds up the leader's own loop, in which it would hand over, but not its heartbeats: the others must not
// go on following it.
func TestLeaderWhoseDiskHangsIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		storage := MemoryStorage()
		storage.Intercept(func(vote bool) error {
			if hangs.Load() && !vote {
				time.Sleep(time.Minute)
			}
			return nil
		})
		one, two, three := ledOn(t, storage)
		hangs.Store(true)
		began := time.Now()
		if _, err := one.Start(t.Context(), Entry{Base: one.View().Rev(), Ops: []Op{put("/a", "1")}}); err != nil {
			t.Fatal(err)
		}
		for {
			changed2, changed3 := two.LeaderChanged(), three.LeaderChanged()
			if two.Leader().Self || three.Leader().Self {
				break
			}
			select {
			case <-changed2:
			case <-changed3:
			case <-time.After(time.Minute):
				t.Fatal("no other member leads a minute after the leader's disk began to hang")
			}
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("leadership moved after %s, not within 8 s", took)
		}
		hangs.Store(false)
	})
}

// ledOn opens three voters; the first leads, and has the storage.
func ledOn(t *testing.T, storage *Storage) (one, two, three *Store) {
	t.Helper()
	one, t1 := member(t, "one", Config{Bootstrap: true, Storage: storage})
	t.Cleanup(func() { one.Close() })
	waitLeader(t, one)
	two, t2 := member(t, "two", Config{Join: true}, t1)
	t.Cleanup(func() { two.Close() })
	three, _ = member(t, "three", Config{Join: true}, t1, t2)
	t.Cleanup(func() { three.Close() })
	for _, id := range []string{"two", "three"} {
		if err := one.AddVoter(t.Context(), id, id); err != nil {
			t.Fatal(err)
		}
	}
	return one, two, three
}
