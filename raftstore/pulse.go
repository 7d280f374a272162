package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// pulse lets the other members hear of this one, while it leads, at every tenth of Config.Heartbeat, until the store closes. raft's own
// heartbeats come after a tenth and a random time of up to as much: nothing would be left for a busy machine of the 200 ms within which a leader is to
// be heard. It takes no lock that anything holds for longer than a look: neither the state's nor the log's.
func (s *Store) pulse() {
	every := time.NewTicker(s.cfg.Heartbeat / 10)
	defer every.Stop()
	for {
		changed := s.LeaderChanged()
		if !s.Leader().Self {
			select {
			case <-changed:
				continue
			case <-s.stopped:
				return
			}
		}
		select {
		case <-s.stopped:
			return
		case <-changed:
		case <-every.C:
			if l := s.Leader(); l.Self {
				s.confirmer.beat(l.Term, s.raft.GetConfiguration().Configuration().Servers)
			}
		}
	}
}

// beat asks each of the other servers once, if it is not being asked, for the sake of being heard. It does not block.
func (c *confirmer) beat(term uint64, servers []raft.Server) {
	var quiet []raft.Server
	c.mu.Lock()
	for _, m := range servers {
		if v := c.peers[m.ID]; string(m.ID) != c.self && (v == nil || !v.busy) {
			quiet = append(quiet, m)
		}
	}
	c.mu.Unlock()
	// Nobody waits for the answers, and each of them asks for no other.
	for _, m := range quiet {
		c.begin(&round{term: term, need: 1, once: true, done: make(chan struct{})}, []raft.Server{m})
	}
}
