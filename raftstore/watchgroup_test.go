package raftstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestWatchGroup: each watch of a group gives its span's events, all and once, while another goroutine writes, the ring is far too small, watches
// come and go, and the state is replaced by a restored one.
func TestWatchGroup(t *testing.T) {
	t.Parallel()
	hist := newHistory(40, 1<<20)
	f := newFSM(newState(func(*Record) []string { return nil }, newPacker()), hist, &memoryBlobs{m: map[string][]byte{}}, 1, func(err error) { t.Error(err) })
	const entries, keys = 3000, 12
	key := func(i int) string { return fmt.Sprintf("/%c/%02d", 'a'+i%3, i) }
	want := map[string][]uint64{} // by key: the revisions that changed it
	written := make(chan struct{})
	turns := make(chan struct{}) // taken by the writer where it does not run ahead
	go func() {
		defer close(written)
		rng := rand.New(rand.NewPCG(1, 2))
		rev := uint64(0)
		for i := range entries {
			if i%200 < 150 {
				<-turns
			}
			e := &Entry{Base: rev, Nonce: uint64(i), node: 1}
			for range 1 + rng.IntN(3) {
				k := key(rng.IntN(keys))
				rev++
				e.Ops = append(e.Ops, put(k, "v"))
				want[k] = append(want[k], rev)
			}
			f.Apply(&raft.Log{Index: uint64(i + 1), Term: 1, Data: e.encode()})
			if i == entries/2 {
				restoreSelf(t, f)
			}
		}
	}()
	signal := make(chan struct{}, 1)
	g := &WatchGroup{h: hist, wake: func() {
		select {
		case signal <- struct{}{}:
		default:
		}
	}}
	var open []*groupWatch
	add := func(sp Span, after uint64) {
		w, err := hist.watch(sp, after)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, &groupWatch{w: w, span: sp, after: after})
		g.Add(w)
	}
	for i := range keys {
		add(Key(key(i)), 0)
	}
	for range 20 {
		add(Prefix("/a/"), 0)
		add(Span{From: "/a/03", To: "/c/02"}, 0)
		add(Key("/never"), 0)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var closed []*groupWatch
	deadline := time.After(time.Minute)
	var room []*Watch
	for done := false; !done; {
		select {
		case <-signal:
		case turns <- struct{}{}:
		case <-written:
			done = true
		case <-deadline:
			t.Fatal("the writer did not end")
		}
		room = g.Ready(room)
		for _, w := range room {
			if at := slices.IndexFunc(open, func(o *groupWatch) bool { return o.w == w }); at >= 0 {
				open[at].poll(t, g)
			}
		}
		open[rng.IntN(len(open))].poll(t, g) // also one that waits
		if rng.IntN(8) == 0 {                // one goes, and another one begins where it was
			at := rng.IntN(len(open))
			o := open[at]
			g.Remove(o.w)
			closed, open = append(closed, o), slices.Delete(open, at, at+1)
			add(o.span, o.upTo)
		}
	}
	for len(g.ready) > 0 {
		for _, w := range g.Ready(nil) {
			if at := slices.IndexFunc(open, func(o *groupWatch) bool { return o.w == w }); at >= 0 {
				open[at].poll(t, g)
			}
		}
	}
	for _, o := range open {
		if rev, ok := g.Seen(o.w); !ok || rev != f.rev() {
			t.Errorf("the watch of %v has seen %d of %d, and waits: %t", o.span, rev, f.rev(), ok)
		}
		o.upTo = f.rev()
		g.Remove(o.w)
	}
	for _, o := range append(open, closed...) {
		var revs []uint64
		for k, list := range want {
			for _, r := range list {
				if o.span.Contains(k) && r > o.after && r <= o.upTo {
					revs = append(revs, r)
				}
			}
		}
		slices.Sort(revs)
		if !slices.Equal(o.got, revs) {
			t.Fatalf("the watch of %v from %d to %d gave %d events, want %d", o.span, o.after, o.upTo, len(o.got), len(revs))
		}
	}
	if n := len(hist.waits.keys) + len(hist.waits.prefixes) + len(hist.waits.spans) + len(hist.waits.lengths); n != 0 {
		t.Errorf("%d spans are waited for when all watches have gone", n)
	}
}

// groupWatch is a watch with what it gave.
type groupWatch struct {
	w           *Watch
	span        Span
	after, upTo uint64
	got         []uint64
}

func (o *groupWatch) poll(t *testing.T, g *WatchGroup) {
	events, upTo, err := g.Poll(o.w)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		o.got = append(o.got, e.Rev)
	}
	o.upTo = upTo
}

// restoreSelf puts a state machine's own snapshot in the place of its state: the ring is empty then.
func restoreSelf(t *testing.T, f *fsm) {
	snap, err := f.Snapshot()
	if err != nil {
		t.Error(err)
		return
	}
	var s sink
	if err := snap.Persist(&s); err != nil {
		t.Error(err)
	}
	snap.Release()
	if err := f.Restore(readCloser{bytes.NewReader(s.Bytes())}); err != nil {
		t.Error(err)
	}
}
