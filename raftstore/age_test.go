package raftstore

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// at proposes a write that was decided at a time.
func at(t testing.TB, s *Store, when time.Time, key string) {
	t.Helper()
	if _, err := s.Propose(t.Context(), Entry{Base: s.View().Rev(), Time: when.UnixNano(), Ops: []Op{put(key, "v")}}); err != nil {
		t.Fatal(err)
	}
}

// A leader's clock is set years ahead for a minute: nothing of the history is forgotten before its time, all that is old enough is, and the
// store's time comes back with the clock.
func TestClockSetAheadAgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOne(t, "", MemoryStorage(), func(c *Config) { c.RetainAge = 10 * time.Minute })
		defer s.Close()
		for i := range 5 {
			at(t, s, time.Now(), fmt.Sprint("/k/", i))
			time.Sleep(time.Minute)
		}
		for range 6 {
			at(t, s, time.Now().AddDate(5, 0, 0), "/ahead")
			time.Sleep(10 * time.Second)
		}
		at(t, s, time.Now(), "/back")
		time.Sleep(time.Minute)
		if floor := s.View().Floor(); floor > 0 {
			t.Errorf("after 7 minutes the history reaches back to revision %d only", floor)
		}
		if off := time.Until(s.View().Time()).Abs(); off > 2*time.Minute {
			t.Errorf("a minute after its clock was set right the store's time is off by %s", off)
		}
		time.Sleep(10 * time.Minute)
		if floor := s.View().Floor(); floor < 5 {
			t.Errorf("what is over 10 minutes old is kept: the history reaches back to revision %d", floor)
		}
	})
}

// Whatever the times of entries are, a revision that was made less than RetainAge ago is in the history, and one that is a good deal older
// than that is not.
func TestHistoryIsAgedByTimeThatPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := time.Duration(rapid.IntRange(1, 600).Draw(t, "keep")) * time.Second
		a := &ages{keep: keep}
		made := map[uint64]time.Duration{}
		begin := time.Now()
		now, rev := time.Duration(0), uint64(0)
		for range rapid.IntRange(1, 400).Draw(t, "looks") {
			now += time.Duration(rapid.IntRange(1, 30).Draw(t, "pause")) * time.Second
			for range rapid.IntRange(0, 3).Draw(t, "writes") {
				rev++
				made[rev] = now
			}
			floor := a.look(begin.Add(now), rev)
			for r, when := range made {
				if r > floor && now-when > keep+30*time.Second+2*a.stride() {
					t.Fatalf("revision %d is %s old, the history is to be %s, and reaches back to %d", r, now-when, keep, floor)
				}
				if r < floor && now-when < keep {
					t.Fatalf("revision %d is %s old, the history is to be %s, and begins at %d", r, now-when, keep, floor)
				}
			}
		}
		if len(a.samples) > maxAges+1 {
			t.Fatalf("%d samples", len(a.samples))
		}
	})
}
