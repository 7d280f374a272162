package raftstore

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Rounds gathers what many callers ask into one call at a time: who comes while a call is under way shares the next one. Questions of
// one round began before its call, so that a call which finds out what is true now answers all of them. Make it with NewRounds.
type Rounds[Q, A any] struct {
	call func([]Q) ([]A, error)
	pace time.Duration

	mu      sync.Mutex
	waiting []*asker[Q, A]
	busy    bool
	began   time.Time // the last call
}

type asker[Q, A any] struct {
	question Q
	// woken gets a token when this one is to make the call for all that wait, or when there is an answer: lead tells which.
	woken  chan struct{}
	lead   bool
	answer A
	err    error
}

// maxRound is how many questions share a call.
const maxRound = 4096

// NewRounds gathers questions for call, which gives an answer for each, in their order, or one error for all. It must end by itself: it is
// run by one of the callers, beyond the end of that one's context.
func NewRounds[Q, A any](call func([]Q) ([]A, error)) *Rounds[Q, A] { return &Rounds[Q, A]{call: call} }

// newPacedRounds is NewRounds for questions that may wait a little: a call begins no earlier than pace after the one before, so that there are
// few calls however many ask.
func newPacedRounds[Q, A any](pace time.Duration, call func([]Q) ([]A, error)) *Rounds[Q, A] {
	return &Rounds[Q, A]{call: call, pace: pace}
}

// Ask blocks until the question is answered or ctx ends.
func (r *Rounds[Q, A]) Ask(ctx context.Context, question Q) (answer A, err error) {
	a := &asker[Q, A]{question: question}
	r.mu.Lock()
	r.waiting = append(r.waiting, a)
	if r.busy {
		a.woken = make(chan struct{}, 1)
	} else {
		r.busy, a.lead = true, true
	}
	r.mu.Unlock()
	if a.woken != nil {
		select {
		case <-a.woken:
		case <-ctx.Done():
			return answer, r.quit(ctx, a)
		}
	}
	if a.lead {
		r.round()
	}
	return a.answer, a.err
}

// quit leaves; if it was just this one's turn, another one takes it.
func (r *Rounds[Q, A]) quit(ctx context.Context, a *asker[Q, A]) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, w := range r.waiting {
		if w == a {
			r.waiting = append(r.waiting[:i:i], r.waiting[i+1:]...)
			break
		}
	}
	if a.lead {
		r.passLocked()
	}
	return ctx.Err()
}

// passLocked gives the turn to the first one that waits.
func (r *Rounds[Q, A]) passLocked() {
	if r.busy = len(r.waiting) > 0; r.busy {
		r.waiting[0].lead = true
		r.waiting[0].woken <- struct{}{}
	}
}

// round makes the call for those that wait, the caller among them, for it is the first. Those that are about to ask are let in: where
// processors are scarce, fewer rounds are more work done.
func (r *Rounds[Q, A]) round() {
	if wait := r.pace - time.Since(r.began); wait > 0 {
		time.Sleep(wait)
	} else {
		runtime.Gosched()
	}
	r.mu.Lock()
	r.began = time.Now()
	n := min(len(r.waiting), maxRound)
	mine := r.waiting[:n:n]
	r.waiting = r.waiting[n:]
	r.mu.Unlock()
	questions := make([]Q, n)
	for i, a := range mine {
		questions[i] = a.question
	}
	answers, err := r.call(questions)
	r.mu.Lock()
	r.passLocked()
	r.mu.Unlock()
	for i, a := range mine {
		if a.err = err; err == nil {
			a.answer = answers[i]
		}
		if i > 0 {
			a.woken <- struct{}{}
		}
	}
}
