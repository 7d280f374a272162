package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/controller"
	"reconcile/raftstore"
)

// group are requests, or transactions, that were decided, and whose entry came to nothing through no fault of the leadership: the store refused it,
// it cannot be encoded, or it was decided on one of those. They are decided again together, before all others and on committed state alone; if it
// happens again, in halves, until the one that does it is found and told.
type group struct {
	jobs []*job
	txns []*txnJob
}

func (g group) len() int { return len(g.jobs) + len(g.txns) }

// halves cuts a group of at least two.
func (g group) halves() []group {
	j, t := len(g.jobs)/2, len(g.txns)/2
	return []group{{jobs: g.jobs[:j:j], txns: g.txns[:t:t]}, {jobs: g.jobs[j:], txns: g.txns[t:]}}
}

// fail answers all of a group.
func (g group) fail(err error) {
	for _, j := range g.jobs {
		j.reply(Result{}, err)
	}
	for _, j := range g.txns {
		j.reply(nil, err)
	}
}

// group are those that wait for a flight.
func (f *flight) group() group {
	var g group
	for _, a := range f.answers {
		g.jobs = append(g.jobs, a.job)
	}
	for _, t := range f.txns {
		g.txns = append(g.txns, t.job)
	}
	return g
}

// writers is how many of them the flight writes for, and with one it is the one.
func (f *flight) writers() (n int, one group) {
	for _, a := range f.answers {
		if a.writes {
			n, one = n+1, group{jobs: []*job{a.job}}
		}
	}
	for _, t := range f.txns {
		if t.writes {
			n, one = n+1, group{txns: []*txnJob{t.job}}
		}
	}
	return n, one
}

// refused takes the oldest flight back, which the store has refused, with those behind it, which were decided on it. The leader goes on.
func (t *tenure) refused(cause error) {
	f := t.flights[0]
	t.flights = t.flights[1:]
	t.s.cfg.Logger.Error("the store refused an entry; what it was to write is decided again in parts", "waiting", f.group().len(), "error", cause)
	switch n, one := f.writers(); {
	case t.s.store.View().Rev() != f.base:
		t.redo = append(t.redo, f.group()) // somebody else has written: it was none of theirs
		t.leftover = append(t.leftover, f.triggers...)
	case n == 1:
		if !errors.Is(cause, raftstore.ErrNoSpace) {
			cause = apierrors.NewBadRequest(fmt.Sprintf("the store refused the write; nothing was changed: %v", cause))
		}
		t.narrow(one, cause)
		t.redo = append(t.redo, f.group().without(one))
	default:
		t.narrow(f.group(), cause)
		t.holdBack(f.triggers)
	}
	for len(t.flights) > 0 {
		next := t.flights[0]
		switch err := <-next.done; {
		case err == nil && !next.empty:
			next.succeed() // it takes no revision, so that the store performed it
		case err == nil, errors.Is(err, raftstore.ErrRefused) && !errors.Is(err, raftstore.ErrNotLeader):
			t.redo = append(t.redo, next.group())
			t.leftover = append(t.leftover, next.triggers...)
		default:
			next.done <- err // end answers it
			t.over = true
			return
		}
		t.flights = t.flights[1:]
	}
}

// without is the group but for one of its members.
func (g group) without(one group) group {
	var out group
	for _, j := range g.jobs {
		if len(one.jobs) == 0 || one.jobs[0] != j {
			out.jobs = append(out.jobs, j)
		}
	}
	for _, j := range g.txns {
		if len(one.txns) == 0 || one.txns[0] != j {
			out.txns = append(out.txns, j)
		}
	}
	return out
}

// narrow has a group decided in halves, or answers the only one there is.
func (t *tenure) narrow(g group, err error) {
	switch g.len() {
	case 0:
	case 1:
		g.fail(err)
	default:
		t.redo = append(g.halves(), t.redo...)
	}
}

// again decides the next group. No entry is under way.
func (t *tenure) again(ctx context.Context) {
	g := t.redo[0]
	t.redo = t.redo[1:]
	if len(g.txns) > 0 {
		t.decideTxns(ctx, g.txns)
	}
	if len(g.jobs) == 0 {
		return
	}
	b := t.newBatch()
	n := 0
	for n < len(g.jobs) && !b.full && b.fits(g.jobs[n].req) {
		b.add(g.jobs[n])
		n++
	}
	if rest := g.jobs[n:]; len(rest) > 0 {
		t.redo = append([]group{{jobs: rest}}, t.redo...)
	}
	b.settle()
	t.propose(ctx, b)
}

// holdBack is for triggers whose run came to nothing: halves of them are tried, until the one that does it rests for a while alone.
func (t *tenure) holdBack(triggers []controller.Trigger) {
	if half := len(triggers) / 2; half > 0 {
		t.suspect = append(t.suspect, triggers[half:], triggers[:half])
		return
	}
	for _, k := range triggers {
		t.s.cfg.Logger.Error("a key is held back because settling it fails", "controller", k.Controller, "key", k.Key.String(), "for", suspectPause)
		t.wakes.add([]controller.Wake{{Trigger: k, At: t.clock.now().Add(suspectPause)}})
	}
}

// suspectPause is how long a key rests whose settling panicked, or came to what cannot be stored.
const suspectPause = 30 * time.Second
