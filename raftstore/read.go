package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"reconcile/internal/fp"
	"reconcile/internal/mutant"
)

// readState remembers the term in which a barrier has passed.
type readState struct {
	mu   sync.Mutex
	term uint64
	turn chan struct{} // holds one token: who has it may pass the barrier for all
	// rounds gathers the calls of ReadIndex.
	rounds *Rounds[struct{}, uint64]
}

func (r *readState) init(round func([]struct{}) ([]uint64, error)) {
	r.turn, r.rounds = make(chan struct{}, 1), NewRounds(round)
}

func (r *readState) passed(term uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.term == term
}

func (r *readState) pass(term uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.term = max(r.term, term)
}

// Barrier blocks until every entry that was committed before, in any term, is applied on this member, which must lead.
func (s *Store) Barrier(ctx context.Context) error {
	term := s.raft.CurrentTerm()
	f := s.raft.Barrier(enqueueTimeout)
	// A barrier never reaches the state machine: its index counts as applied from here, whether the caller still waits or not. On an idle leader
	// nothing comes after it, and a reader would wait for an index that nobody raises.
	err := s.awaitThen(ctx, f, func() {
		s.fsm.raise(f.(raft.IndexFuture).Index())
		if s.raft.CurrentTerm() == term {
			s.read.pass(term)
		}
	})
	if err != nil {
		return fmt.Errorf("pass a barrier: %w", s.leadership(err))
	}
	return nil
}

// Applied is the index of the last entry of the log that this member's state holds.
func (s *Store) Applied() uint64 {
	s.fsm.mu.Lock()
	defer s.fsm.mu.Unlock()
	return s.fsm.applied
}

// leadership translates raft's errors.
func (s *Store) leadership(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrStopped
	}
	return err
}

// ReadIndex returns a revision such that a read at it, or at a later one, sees every write that was acknowledged before the call. This
// member must lead; another one gets the revision from the leader and calls WaitRev. (Diego Ongaro's thesis, section 6.4.)
//
// A new leader's commit index is behind until it has committed something in its own term, so a barrier comes first, once a
// term; then the commit index is noted, leadership confirmed with a majority, and the state machine's own index awaited
// (raft's applied index runs ahead of it). All calls that wait share one such round: who comes while one is under way shares the next.
func (s *Store) ReadIndex(ctx context.Context) (uint64, error) {
	rev, err := s.read.rounds.Ask(ctx, struct{}{})
	if err != nil {
		return 0, fmt.Errorf("read index: %w", err)
	}
	return rev, nil
}

// readRound is one round for all that wait.
func (s *Store) readRound(waiting []struct{}) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), enqueueTimeout)
	defer cancel()
	rev, err := s.readIndex(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Repeat([]uint64{rev}, len(waiting)), nil
}

func (s *Store) readIndex(ctx context.Context) (uint64, error) {
	leader := s.Leader()
	term := leader.Term
	if !leader.Self {
		return 0, ErrNotLeader
	}
	if err := s.barrierOnce(ctx, term); err != nil {
		return 0, err
	}
	index := s.raft.CommitIndex()
	servers := s.raft.GetConfiguration().Configuration().Servers
	if err := s.confirmer.confirm(ctx, term, servers, func() (bool, <-chan struct{}) {
		changed := s.LeaderChanged() // before it is looked at, so that none is missed
		now := s.Leader()
		return now.Self && now.Term == term, changed
	}); err != nil {
		return 0, err
	}
	fp.Hit("raftstore/read-verified")
	if now := s.raft.CurrentTerm(); now != term {
		return 0, fmt.Errorf("%w: term %d became %d", ErrNotLeader, term, now)
	}
	if err := s.fsm.wait(ctx, func(applied, _ uint64) bool { return applied >= index }); err != nil {
		return 0, err
	}
	return s.fsm.rev(), nil
}

func (s *Store) barrierOnce(ctx context.Context, term uint64) error {
	if mutant.ReadWithoutBarrier || s.read.passed(term) {
		return nil
	}
	select {
	case s.read.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.read.turn }()
	if s.read.passed(term) {
		return nil
	}
	if err := s.Barrier(ctx); err != nil {
		return err
	}
	if !s.read.passed(term) {
		return fmt.Errorf("%w: term %d has passed", ErrNotLeader, term)
	}
	return nil
}
