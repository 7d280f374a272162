package raftstore

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// pastWalks reads the past for watches that the ring no longer serves. A walk of a span costs a look at each of its keys, however few changed, so those who
// want the same span share one: after a restart, or a cut of the network, a thousand clients come back at once, and most of them watch the
// same. Walks of different spans take turns, so that entries are applied beside them.
type pastWalks struct {
	slots chan struct{}

	mu    sync.Mutex
	walks map[Span]*pastWalk
}

// pastWalk is one walk: the events of the revisions after from, up to upTo, in order, when done is closed.
type pastWalk struct {
	from   uint64
	done   chan struct{}
	upTo   uint64
	events []*Event
	// gone tells that the history was cut beyond from meanwhile.
	gone bool
}

// keepWalk is how long a walk is kept for those who come after.
const keepWalk = 2 * time.Second

func newPastWalks() *pastWalks {
	return &pastWalks{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), walks: map[Span]*pastWalk{}}
}

// after returns the events of a span after a revision, up to another. gone tells that the history may not reach back so far any more. They are shared.
func (p *pastWalks) after(view func() *View, span Span, rev uint64) (events []*Event, upTo uint64, gone bool) {
	for {
		w, mine := p.walk(span, rev)
		if mine {
			p.run(w, view, span)
		}
		<-w.done
		if !mine && (w.gone || rev >= w.upTo) {
			p.drop(span, w) // of no use to this one
			continue
		}
		first, _ := slices.BinarySearchFunc(w.events, rev+1, func(e *Event, rev uint64) int {
			if e.Rev < rev {
				return -1
			}
			return 1 // the first of that revision
		})
		return w.events[first:], w.upTo, w.gone
	}
}

// walk finds a walk that reaches back to a revision, or makes one, which is the caller's to run.
func (p *pastWalks) walk(span Span, rev uint64) (w *pastWalk, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.walks[span]; w != nil && w.from <= rev {
		return w, false
	}
	w = &pastWalk{from: rev, done: make(chan struct{})}
	p.walks[span] = w
	return w, true
}

func (p *pastWalks) drop(span Span, w *pastWalk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.walks[span] == w {
		delete(p.walks, span)
	}
}

func (p *pastWalks) run(w *pastWalk, view func() *View, span Span) {
	p.slots <- struct{}{}
	defer func() {
		<-p.slots
		close(w.done)
		time.AfterFunc(keepWalk, func() { p.drop(span, w) })
	}()
	v := view()
	collect := func(r *Record) bool {
		for ; r != nil && r.ModRev > w.from; r = r.prev.Load() {
			e := &Event{Rev: r.ModRev, Key: r.Key, Rec: r, Deleted: r.tomb}
			if p := r.prev.Load(); p != nil && !p.tomb && r.ModRev > v.Floor() {
				e.Prev = p
			}
			w.events = append(w.events, e)
		}
		return true
	}
	walkTree(v.keys, span, false, collect)
	walkTree(v.graves, span, false, collect)
	w.upTo, w.gone = v.Rev(), w.from+1 < v.Floor() // versions may have gone while they were read
	slices.SortFunc(w.events, func(a, b *Event) int {
		if a.Rec.before(b.Rec) {
			return -1
		}
		return 1
	})
}
