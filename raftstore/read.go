package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// ReadIndex returns a revision such that a read of this member at it, or at a later one, sees every write that was acknowledged before the
// call. This member must lead; another one asks the leader for its ReadPoint. (Diego Ongaro's thesis, section 6.4.)
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

// ReadPoint is how far a member must have come so that it may be read. Leases and compactions take no revision, so there is an index too.
type ReadPoint struct {
	// Rev is the newest revision.
	Rev uint64 `json:"rev"`
	// Index is that of the newest command in the log; 0 asks for none.
	Index uint64 `json:"index,omitempty"`
}

// Voice is what a member that asks the leader says of itself: that it was in no later term than this one when it asked. It counts as its answer to
// the leader's own question would (DESIGN.md, Reads). The zero Voice is nobody's.
type Voice struct {
	// ID is the member's, Term the one that it was in after the questions had begun that it sends.
	ID   string `json:"id,omitempty"`
	Term uint64 `json:"term,omitempty"`
}

// Voice is this member's now: it serves questions that have begun already.
func (s *Store) Voice() Voice { return Voice{ID: s.id.ServerID, Term: s.raft.CurrentTerm()} }

// majority tells whether this member, if it is still in the term, and another one's voice make a majority of the voters.
func (s *Store) majority(v Voice, term uint64) bool {
	voters, with := 0, 0
	for _, m := range s.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage != raft.Voter {
			continue
		}
		voters++
		if id := string(m.ID); id == s.id.ServerID || id == v.ID && v.Term > 0 && v.Term <= term {
			with++
		}
	}
	return with > voters/2
}

// readIndexFor is ReadIndex for questions that another member sends with its voice: of three members nobody else need be asked.
func (s *Store) readIndexFor(ctx context.Context, v Voice) (uint64, error) {
	leader := s.Leader()
	if term := leader.Term; leader.Self && s.read.passed(term) && s.majority(v, term) {
		index := s.raft.CommitIndex()
		if s.raft.CurrentTerm() == term {
			return s.applied(ctx, index)
		}
	}
	return s.ReadIndex(ctx)
}

// applied waits until this member's state holds the log up to index, and returns its revision.
func (s *Store) applied(ctx context.Context, index uint64) (uint64, error) {
	if err := s.fsm.wait(ctx, func(applied, _ uint64) bool { return applied >= index }); err != nil {
		return 0, err
	}
	return s.fsm.rev(), nil
}

// ReadPoint is ReadIndex for another member, which calls WaitPoint with it: it tells the place of the last command too. This member must lead.
// by is the voice of the member that asks.
func (s *Store) ReadPoint(ctx context.Context, by Voice) (ReadPoint, error) {
	if _, err := s.readIndexFor(ctx, by); err != nil {
		return ReadPoint{}, err
	}
	// A state that was read from a snapshot does not tell where its last command stands: the snapshot may end with a barrier, of which
	// other members do not hear. So there must be one that was performed here. Mostly there is.
	if p, exact := s.fsm.point(); exact {
		return p, nil
	}
	if _, err := s.proposeOwn(ctx); err != nil {
		return ReadPoint{}, fmt.Errorf("read index: %w: write an empty entry: %v", ErrNotLeader, err) //nolint:errorlint // it is asked again, whatever became of the entry
	}
	p, _ := s.fsm.point()
	return p, nil
}

// WaitPoint blocks until this member's views show all that the leader's showed when it gave the point.
func (s *Store) WaitPoint(ctx context.Context, p ReadPoint) error {
	err := s.fsm.waitLocked(ctx, func() bool { return s.fsm.st.rev >= p.Rev && s.fsm.commands >= p.Index })
	if err != nil {
		return fmt.Errorf("wait for revision %d and entry %d: %w", p.Rev, p.Index, err)
	}
	return nil
}

// point is how far the state has come, and whether the index is that of a command.
func (f *fsm) point() (p ReadPoint, exact bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return ReadPoint{Rev: f.st.rev, Index: f.commands}, f.exact || f.commands == 0
}

// numbered tells the state machine where the snapshot ends that it is given to restore.
type numbered struct{ raft.SnapshotStore }

// Open implements raft.SnapshotStore.
func (n numbered) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := n.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, numberedReader{r, meta.Index}, nil
}

type numberedReader struct {
	io.ReadCloser
	index uint64
}

// indexOf is where a snapshot ends that raft gave to restore; 0 if it came another way.
func indexOf(r io.ReadCloser) uint64 {
	for {
		switch in := r.(type) {
		case numberedReader:
			return in.index
		case raft.ReadCloserWrapper:
			r = in.WrappedReadCloser()
		default:
			return 0
		}
	}
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
	return s.applied(ctx, index)
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
