package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"reconcile/raftstore"
)

const (
	// joinTimeout bounds one question to the member that is joined: one that takes the connection and says nothing is asked again.
	joinTimeout = 30 * time.Second
	// goneTimeout is how long a server may take to answer at the address that it is said to have left.
	goneTimeout = 3 * time.Second
	// joinEvery and joinRetry are the pauses of one who is not a voter yet, and of one who was not answered.
	joinEvery = 100 * time.Millisecond
	joinRetry = 2 * time.Second
	// voteWithin is how many entries a server may be behind the leader when it gets its vote: those of a moment.
	voteWithin = 64
)

// belongs tells whether this member knows that it has its vote at its address: then there is nothing to ask, and nobody needs to answer.
func (s *Server) belongs() bool {
	servers, err := s.store.Servers()
	return err == nil && slices.Contains(servers, raftstore.Server{ID: s.store.Identity().ServerID, Address: s.cfg.Advertise, Voter: true})
}

// join asks until the cluster has made this member a voter: first it is taken in without a vote, for while it reads the log or a
// snapshot it could not help a majority, and then asked again until it has caught up. It returns when ctx ends, too.
func (s *Server) join(ctx context.Context) error {
	told := ""
	tell := func(what string) {
		if told != what {
			s.cfg.Log.Info(what, "through", s.cfg.Join, "id", s.store.Identity().ServerID)
		}
		told = what
	}
	for {
		now, err := s.askToJoin(ctx)
		wait := joinEvery
		switch {
		case err == nil && now.Voter:
			tell("joined the cluster")
			return nil
		case err == nil:
			tell("the cluster has taken this server in, without a vote until it has caught up")
		case ctx.Err() == nil:
			s.cfg.Log.Warn("the cluster has not taken this server in yet; trying again", "through", s.cfg.Join, "error", err)
			wait = joinRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (s *Server) askToJoin(ctx context.Context) (standing, error) {
	m, err := json.Marshal(member{ID: s.store.Identity().ServerID, Address: s.cfg.Advertise, Applied: s.store.Applied()})
	if err != nil {
		return standing{}, err
	}
	ask, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	b, err := s.peers.post(ask, s.cfg.Join, pathJoin, m)
	if err != nil {
		return standing{}, err
	}
	var now standing
	if err := json.Unmarshal(b, &now); err != nil {
		return standing{}, fmt.Errorf("read the answer of server %s: %w", s.cfg.Join, err)
	}
	return now, nil
}

// join takes a server in: without a vote until it has caught up, then with one. Asked again, it changes the server's address. A follower
// hands the question to the leader.
func (s *peerService) join(ctx context.Context, body []byte) ([]byte, error) {
	var m member
	if err := json.Unmarshal(body, &m); err != nil || m.ID == "" || m.Address == "" {
		return nil, errors.New("join: want the new server's id and address")
	}
	leader := s.store.Leader()
	if !leader.Self {
		if leader.Address == "" {
			return nil, errors.New("join: no server leads at the moment; try again in some seconds")
		}
		return s.peers.post(ctx, leader.Address, pathJoin, body)
	}
	servers, err := s.store.Servers()
	if err != nil {
		return nil, err
	}
	now := raftstore.Server{}
	if i := slices.IndexFunc(servers, func(o raftstore.Server) bool { return o.ID == m.ID }); i >= 0 {
		now = servers[i]
	}
	switch {
	case now.Address == m.Address && (now.Voter || s.store.Applied() > m.Applied+voteWithin):
	case now.Address == m.Address:
		now.Voter, err = true, s.store.AddVoter(ctx, m.ID, m.Address)
	default:
		if err = s.gone(ctx, now); err == nil {
			err = s.replace(ctx, servers, m)
		}
		if err == nil {
			err = s.store.AddNonvoter(ctx, m.ID, m.Address)
		}
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(standing{Voter: now.Voter})
}

// gone is an error if a server still answers at the address that it is to leave: then the one that asks runs on a copy of its folder.
func (s *peerService) gone(ctx context.Context, m raftstore.Server) error {
	if m.Address == "" {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	b, err := s.peers.post(ask, m.Address, pathCluster, nil)
	if err != nil {
		return nil // nobody answers, as is to be
	}
	var w welcome
	if err := json.Unmarshal(b, &w); err != nil || w.ServerID != m.ID {
		return nil
	}
	return fmt.Errorf("join: server %s lives at %s: is this data directory a copy of its? Remove store and %s from the copy and join with a store of its own", m.ID, m.Address, noteName)
}

// replace removes a server whose address another one has taken: its folder was emptied, so that it came back under a new ID. The one at
// the address is asked who it is, for a mistaken address must not cost a living server its place.
func (s *peerService) replace(ctx context.Context, servers []raftstore.Server, m member) error {
	for _, old := range servers {
		if old.Address != m.Address || old.ID == m.ID {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		b, err := s.peers.post(ask, m.Address, pathCluster, nil)
		if err != nil {
			return fmt.Errorf("join: server %s has the address %s: %w", old.ID, old.Address, err)
		}
		var w welcome
		if err := json.Unmarshal(b, &w); err != nil || w.ServerID != m.ID {
			return fmt.Errorf("join: the address %s is that of server %s, which is there; choose another with --advertise-addr", old.Address, old.ID)
		}
		return s.store.RemoveServer(ctx, old.ID)
	}
	return nil
}
