package sequencer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/raftstore"
)

// A request that changed nothing was decided on the entries before it: if one of those fails, what it was told is void.
func TestNothingIsAnsweredOnWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		write, same := &job{req: &Request{}, answer: make(chan answer, 1), leave: func() {}}, &job{req: &Request{}, answer: make(chan answer, 1), leave: func() {}}
		lost := &flight{answers: []verdict{{job: write}}, done: make(chan error, 1)}
		nothing := &flight{empty: true, answers: []verdict{{job: same}}, done: make(chan error, 1)}
		tn := &tenure{s: r.seq, flights: []*flight{lost, nothing}}
		lost.done <- fmt.Errorf("propose: %w", raftstore.ErrNotLeader)
		nothing.done <- nil
		tn.land(<-tn.landed())
		tn.end()
		for name, j := range map[string]*job{"the write": write, "the request that changed nothing": same} {
			if a := <-j.answer; !errors.Is(a.err, errAgain) {
				t.Errorf("%s was answered with %v, want another try", name, a.err)
			}
		}
	})
}

// Nobody hears of a state that is not committed yet, neither by a refusal nor by a dry run.
func TestAnswersWaitForWhatTheyAreDecidedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stuck atomic.Bool
		release := make(chan struct{})
		storage := raftstore.MemoryStorage()
		storage.Intercept(func(bool) error {
			if stuck.Load() {
				<-release
			}
			return nil
		})
		r := newRig(t, storage, nil)
		defer r.stop()
		stuck.Store(true)
		type told struct {
			what string
			err  error
		}
		answers := make(chan told, 3)
		ask := func(what string, req Request) {
			go func() {
				_, err := r.seq.Submit(context.Background(), req)
				answers <- told{what, err}
			}()
			time.Sleep(time.Second)
		}
		ask("the creation", Request{Ops: []Op{write(Create, configMap("a", "1"))}})
		ask("a second creation", Request{Ops: []Op{write(Create, configMap("a", "2"))}})
		ask("a dry run", Request{DryRun: true, Ops: []Op{write(Update, configMap("a", "3"))}})
		if n := len(answers); n > 0 {
			t.Errorf("%d of three were answered before anything was on disk", n)
		}
		close(release)
		for range 3 {
			a := <-answers
			if refused := a.err != nil; refused != (a.what == "a second creation") {
				t.Errorf("%s: %v", a.what, a.err)
			}
		}
	})
}
