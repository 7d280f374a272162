package raftstore

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// missLeader makes a follower look for its leader when it has heard nothing of it for the election timeout (Config.Heartbeat) and up to a fifth more,
// at random, so that two do not stand at once.
//
// raft by itself looks at random times, one to two timeouts apart, whatever it heard meanwhile, so that up to three may pass; and the others give no
// pre-vote before they have looked themselves. What raft does when it looks, and what it needs for a leader, stay raft's.
func (s *Store) missLeader() {
	from, wait := time.Now(), s.patience()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.stopped:
			return
		case <-s.fatal:
			return
		}
		if heard := s.raft.LastContact(); heard.After(from) {
			from = heard
		}
		if s.raft.State() != raft.Follower {
			from = time.Now()
		} else if time.Since(from) >= wait {
			s.look()
			from, wait = time.Now(), s.patience()
		}
		timer.Reset(wait - time.Since(from))
	}
}

// patience is how long a follower waits for a sign of its leader.
func (s *Store) patience() time.Duration {
	return s.cfg.Heartbeat + rand.N(s.cfg.Heartbeat/5+1)
}

// look makes raft's follower look for its leader at once, which it does when its timeout is made shorter.
func (s *Store) look() {
	c := s.raft.ReloadableConfig()
	for _, timeout := range []time.Duration{s.cfg.Heartbeat - 1, s.cfg.Heartbeat} {
		c.HeartbeatTimeout = timeout
		if err := s.raft.ReloadConfig(c); err != nil {
			s.cfg.Logger.Warn("raft does not look for its leader earlier than by itself", "error", err)
		}
	}
}
