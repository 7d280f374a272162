package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// change is an event as a test expects it.
type change struct {
	rev     uint64
	key     string
	deleted bool
}

// shortRing is a state machine whose ring holds next to nothing, so that watches read the past.
func shortRing(t testing.TB) *fsm {
	return newFSM(newState(func(*Record) []string { return nil }, testPacker()), newHistory(4, 1<<20), &memoryBlobs{m: map[string][]byte{}}, 1, func(err error) { t.Error(err) })
}

// randomHistory applies random entries to a state machine and returns what every watch must be told.
func randomHistory(f *fsm, rng *rand.Rand, from, entries int) (all []change) {
	for i := range entries {
		rev := f.view().Rev()
		e := &Entry{Base: rev, Nonce: uint64(from + i + 1), node: 1}
		taken := map[string]bool{}
		for range 1 + rng.IntN(4) {
			key := fmt.Sprintf("/%c/%02d", 'a'+rng.IntN(3), rng.IntN(10))
			if taken[key] {
				continue
			}
			taken[key] = true
			rev++
			_, exists := f.view().Get(key)
			if rng.IntN(4) == 0 {
				e.Ops = append(e.Ops, Op{Kind: Delete, Key: key})
				if exists {
					all = append(all, change{rev, key, true})
				}
				continue
			}
			e.Ops = append(e.Ops, put(key, "v"))
			all = append(all, change{rev, key, false})
		}
		f.Apply(&raft.Log{Index: uint64(from + i + 1), Term: 1, Data: e.encode()})
	}
	return all
}

// TestWatchesShareThePast: watches from many revisions, of a few spans, all at once, while entries are applied: each is told all, in order, once, though
// they share walks; what is compacted, none is told.
func TestWatchesShareThePast(t *testing.T) {
	t.Parallel()
	f := shortRing(t)
	all := randomHistory(f, rand.New(rand.NewPCG(1, 2)), 0, 400)
	const floor = 200
	f.Apply(&raft.Log{Index: 401, Term: 1, Data: (&Entry{Nonce: 401, node: 1, Ops: []Op{Compaction(floor)}}).encode()})
	last := f.view().Rev()
	var wg sync.WaitGroup
	for i := range 200 {
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		span := []Span{Prefix("/a/"), Prefix("/b/"), {}, Key("/c/03")}[i%4]
		after := uint64(floor-20) + uint64(rng.IntN(int(last)-floor+20))
		wg.Go(func() {
			w, err := f.hist.watch(span, after)
			if after+1 < floor {
				if !errors.Is(err, ErrCompacted) {
					t.Errorf("a watch after %d: %v", after, err)
				}
				return
			}
			var have []change
			for err == nil {
				var events []*Event
				events, _, err = w.Poll()
				if len(events) == 0 {
					break
				}
				for _, e := range events {
					if e.Rev <= last {
						have = append(have, change{e.Rev, e.Key, e.Deleted})
					}
				}
			}
			if err != nil {
				t.Error(err)
			}
			var want []change
			for _, c := range all {
				if c.rev > after && span.Contains(c.key) {
					want = append(want, c)
				}
			}
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Errorf("a watch of %v after %d was told\n%v\nnot\n%v", span, after, have, want)
			}
		})
	}
	wg.Go(func() { randomHistory(f, rand.New(rand.NewPCG(5, 6)), 401, 100) })
	wg.Wait()
	// They share walks: the events of two watches are the same ones, and so is what is encoded of them.
	one, err := f.hist.watch(Prefix("/a/"), last/2)
	if err != nil {
		t.Fatal(err)
	}
	two, err := f.hist.watch(Prefix("/a/"), last/2+20)
	if err != nil {
		t.Fatal(err)
	}
	a, b := one.backlog, two.backlog
	if len(a) <= len(b) || len(b) == 0 || a[len(a)-1] != b[len(b)-1] {
		t.Errorf("two watches of one span were told %d and %d events, of walks of their own", len(a), len(b))
	}
}

// BenchmarkReconnect is how long 1,000 watches of one prefix of 100,000 keys take that come back at once, 500 changes behind what the ring holds.
func BenchmarkReconnect(b *testing.B) {
	s := filled(100_000, 64)
	f := newFSM(s, newHistory(16, 1<<20), &memoryBlobs{m: map[string][]byte{}}, 1, func(err error) { b.Error(err) })
	from := s.rev
	for i := range 500 {
		e := &Entry{Base: s.rev, Nonce: uint64(1e9 + i), node: 1, Ops: []Op{put(benchKey(i*97), "changed")}}
		f.Apply(&raft.Log{Index: uint64(1e6 + i), Term: 1, Data: e.encode()})
	}
	const watchers = 1000
	for b.Loop() {
		f.hist.walks = newPastWalks()
		var wg sync.WaitGroup
		for i := range watchers {
			wg.Go(func() {
				w, err := f.hist.watch(Prefix("/registry/pods/"), from+uint64(i%50))
				if err != nil || len(w.backlog) != 500-i%50 {
					b.Errorf("%d events, %v", len(w.backlog), err)
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/1000watches")
}
