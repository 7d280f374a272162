package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Pending is a proposal on its way.
type Pending struct {
	s      *Store
	nonce  uint64
	future raft.ApplyFuture
}

// Nonce identifies the entry for Outcome.
func (p *Pending) Nonce() uint64 { return p.nonce }

// Start puts an entry into the log, behind those started before, and returns at once. Many operations are compressed; if they are over
// MaxEntry even so, they are staged first, which blocks. ErrNotLeader and ErrStopped mean that the entry will never be committed.
func (s *Store) Start(ctx context.Context, e Entry) (*Pending, error) {
	own := e.Ops
	if Size(e.Ops) >= packFrom {
		packed := []Op{{Kind: opPacked, Value: s.packer.pack(e.Ops)}}
		if Size(packed) > MaxEntry {
			digest, err := s.stageUnder(ctx, &s.stage.entries, packed[0].Value)
			if err != nil {
				return nil, fmt.Errorf("stage %d operations: %w", len(e.Ops), err)
			}
			packed[0] = Op{Kind: opSwitch, Key: digest}
		}
		e.Ops = packed
	}
	return s.startEntry(e, own)
}

func (s *Store) startEntry(e Entry, own []Op) (*Pending, error) {
	select {
	case <-s.fatal:
		return nil, fmt.Errorf("propose: %w: %w", ErrStopped, s.failure)
	case <-s.stopped:
		return nil, fmt.Errorf("propose: %w", ErrStopped)
	default:
	}
	if e.Nonce == 0 {
		e.Nonce = s.nonce.Add(1)
	}
	e.node, e.own = s.node, own
	body := e.encode()
	if len(body) > MaxEntry {
		return nil, fmt.Errorf("propose %d bytes: %w", len(body), ErrTooLarge)
	}
	s.fsm.expect(e.Nonce, own)
	return &Pending{s: s, nonce: e.Nonce, future: s.raft.Apply(body, enqueueTimeout)}, nil
}

// Wait blocks until the entry is applied on this member. Errors: ErrRefused or ErrNotLeader (nothing was changed and nothing will
// be), ErrUnknown (it may be committed or not, also later).
func (p *Pending) Wait(ctx context.Context) (Outcome, error) {
	err := p.s.await(ctx, p.future)
	p.s.fsm.forget(p.nonce)
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return Outcome{}, fmt.Errorf("propose: %w: %w", ErrNotLeader, err)
	default: // leadership lost, shut down, or ctx ended: it is in some log, or not
		return Outcome{}, fmt.Errorf("propose: %w: %w", ErrUnknown, err)
	}
	switch r := p.future.Response().(type) {
	case Outcome:
		return r, r.Err()
	case error:
		return Outcome{}, fmt.Errorf("propose: %w: %w", ErrUnknown, r)
	default:
		return Outcome{}, fmt.Errorf("propose: %w: the state machine answered %T", ErrUnknown, r)
	}
}

// Propose is Start and Wait.
func (s *Store) Propose(ctx context.Context, e Entry) (Outcome, error) {
	p, err := s.Start(ctx, e)
	if err != nil {
		return Outcome{}, err
	}
	return p.Wait(ctx)
}

// Outcome tells what became of an entry that this member proposed under nonce, among the last 4,096 entries. After a Barrier on the
// leader, false means that it was not committed before the barrier, unless it was forgotten (Fate); it may still come if this member was another's follower
// meanwhile and its old log wins, which raft excludes once the barrier's term has committed an entry.
func (s *Store) Outcome(nonce uint64) (Outcome, bool) { return s.fsm.outcome(origin{s.node, nonce}) }

// Fate is Outcome for an entry that was to end at the revision last (its base, if it takes none), and tells whether "not found" can be
// relied on: if found is false and sure too, the entry may have been committed so long ago that its outcome was forgotten.
func (s *Store) Fate(nonce, last uint64) (out Outcome, found, sure bool) {
	return s.fsm.fate(origin{s.node, nonce}, last)
}

// Nonce reserves a nonce for an Entry.
func (s *Store) Nonce() uint64 { return s.nonce.Add(1) }

// proposeOwn proposes operations that take no revision.
func (s *Store) proposeOwn(ctx context.Context, ops ...Op) (Outcome, error) {
	p, err := s.startEntry(Entry{Ops: ops}, nil)
	if err != nil {
		return Outcome{}, err
	}
	return p.Wait(ctx)
}
