package raftstore

import (
	"math/rand/v2"
	"testing"
)

// TestForgottenOutcomes: whoever asks for an outcome that was forgotten is never told that the entry was not applied, whether it took one
// revision, several, or none; and what ended after the newest revision is always told for sure.
func TestForgottenOutcomes(t *testing.T) {
	s := newState(func(*Record) []string { return nil }, testPacker())
	rnd := rand.New(rand.NewPCG(1, 2))
	lasts := map[origin]uint64{}
	for n := range uint64(2*maxOutcomes + 100) {
		o := origin{1, n + 1}
		e := &Entry{Base: s.rev, Nonce: o.nonce, node: o.node}
		switch rnd.IntN(4) {
		case 0:
			e.Ops = []Op{LeaseGrant(int64(n+1), 10)}
		case 1:
			e.Ops = []Op{put("/a", "1"), put("/b", "2")}
		case 2:
			e.Ops = []Op{put("/a", "1")}
		}
		out, _, err := s.apply(e, position{term: 1, index: n + 1}, nil)
		if err != nil || out.Refused {
			t.Fatalf("entry %d: %+v %v", n, out, err)
		}
		lasts[o] = out.Last
		if !s.remembers(s.rev + 1) {
			t.Fatalf("an entry that would come next counts as forgotten at revision %d", s.rev)
		}
		// The one that was forgotten just now is the nearest to the horizon: one revision off shows here.
		if gone, ok := lasts[origin{1, n + 1 - maxOutcomes}]; ok && s.remembers(gone) {
			t.Fatalf("entry %d ended at revision %d, was forgotten just now, and counts as never applied", n+1-maxOutcomes, gone)
		}
	}
	forgotten, wide := 0, 0
	for o, last := range lasts {
		_, found := s.outcomes[o]
		switch {
		case !found && s.remembers(last):
			t.Fatalf("entry %d ended at revision %d, is forgotten, and counts as never applied", o.nonce, last)
		case !found:
			forgotten++
		case !s.remembers(last):
			wide++ // found, so nobody asks
		}
	}
	if forgotten != maxOutcomes+100 || wide > 16 {
		t.Errorf("%d are forgotten, want %d; %d more than must count as such", forgotten, maxOutcomes+100, wide)
	}
}
