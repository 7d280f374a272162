package raftstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// Leader is who leads, as this member knows it.
type Leader struct {
	// ID and Address are empty if nobody is known to lead.
	ID, Address string
	// Term is this member's current term.
	Term uint64
	// Self tells that this member leads.
	Self bool
}

type leaderState struct {
	mu      sync.Mutex
	changed chan struct{}
}

// Leader is who leads now, as this member knows it. It may be out of date at once.
func (s *Store) Leader() Leader {
	addr, id := s.raft.LeaderWithID()
	return Leader{ID: string(id), Address: string(addr), Term: s.raft.CurrentTerm(), Self: s.raft.State() == raft.Leader}
}

// LeaderChanged is closed at the next change of leadership or term; take it before Leader, so that none is missed.
func (s *Store) LeaderChanged() <-chan struct{} {
	s.leader.mu.Lock()
	defer s.leader.mu.Unlock()
	return s.leader.changed
}

func (s *Store) announce() {
	s.leader.mu.Lock()
	defer s.leader.mu.Unlock()
	close(s.leader.changed)
	s.leader.changed = make(chan struct{})
}

// follow turns raft's observations into announcements until the store closes, and ends raft when a fault stops the member.
func (s *Store) follow() {
	seen := make(chan raft.Observation, 16)
	obs := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	s.raft.RegisterObserver(obs)
	s.wg.Go(func() {
		defer s.raft.DeregisterObserver(obs)
		defer s.announce()
		fatal := s.fatal
		for {
			select {
			case <-s.stopped:
				return
			case <-fatal:
				// Not waited for here: Close does. From now on this member neither votes nor leads.
				s.raft.Shutdown()
				fatal = nil
			case <-seen:
			}
			s.announce()
		}
	})
}

// AddVoter makes a server a full member, or changes its address. Only the leader can; it blocks until a majority has it.
func (s *Store) AddVoter(ctx context.Context, id, address string) error {
	return s.change(ctx, "add voter "+id, s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, enqueueTimeout))
}

// AddNonvoter makes a server a member that follows and does not vote.
func (s *Store) AddNonvoter(ctx context.Context, id, address string) error {
	return s.change(ctx, "add nonvoter "+id, s.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, enqueueTimeout))
}

// RemoveServer ends a server's membership. Its ID must not be used again.
func (s *Store) RemoveServer(ctx context.Context, id string) error {
	return s.change(ctx, "remove server "+id, s.raft.RemoveServer(raft.ServerID(id), 0, enqueueTimeout))
}

// TransferLeadership hands leadership to the voter that is furthest ahead, before a planned stop.
func (s *Store) TransferLeadership(ctx context.Context) error {
	return s.change(ctx, "transfer leadership", s.raft.LeadershipTransfer())
}

// TransferLeadershipTo hands leadership to a voter.
func (s *Store) TransferLeadershipTo(ctx context.Context, to Server) error {
	return s.change(ctx, "transfer leadership to "+to.ID, s.raft.LeadershipTransferToServer(raft.ServerID(to.ID), raft.ServerAddress(to.Address)))
}

func (s *Store) change(ctx context.Context, what string, f raft.Future) error {
	if err := s.await(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", what, s.leadership(err))
	}
	return nil
}

// Servers are the members as this one knows them.
func (s *Store) Servers() ([]Server, error) {
	f := s.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("list the servers: %w", err)
	}
	var out []Server
	for _, m := range f.Configuration().Servers {
		out = append(out, Server{ID: string(m.ID), Address: string(m.Address), Voter: m.Suffrage == raft.Voter})
	}
	return out, nil
}
