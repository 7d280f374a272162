package raftstore

import (
	"errors"
	"sync"
	"time"
)

// slowWrite is how long one write of the log may take before a leader gives leadership up: everybody waits for a leader's disk, while a
// follower's slow disk holds up nobody as long as there is another. handOverEvery is how often it does, for all disks may be slow.
const (
	slowWrite     = 2 * time.Second
	handOverEvery = time.Minute
)

// errHangs is why a leader whose disk hangs sends nothing.
var errHangs = errors.New("a write of the log hangs: nothing is sent, so that another member is elected")

// hang tells a write that takes too long while it does. raft's leader writes its log in the loop in which it would also hand over, while its
// heartbeats go on beside: the others would follow a leader that does nothing, for as long as the disk likes. The zero value is ready.
type hang struct {
	mu    sync.Mutex
	began time.Time // of the write under way; zero for none
	gave  time.Time // the beginning of the write during which leadership was last given up
}

func (h *hang) set(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.began = began
}

// silent tells whether a leader must be silent now: a write hangs, and it has not been silent for the sake of another one lately.
func (h *hang) silent() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.began.IsZero() || time.Since(h.began) < slowWrite {
		return false
	}
	if h.gave.IsZero() || h.began.Sub(h.gave) >= handOverEvery {
		h.gave = h.began
	}
	return h.gave.Equal(h.began)
}

// timed runs a write of the log and tells slow if it took too long.
func (d *durable) timed(write func() error) error {
	began := time.Now()
	d.hang.set(began)
	err := write()
	d.hang.set(time.Time{})
	if took := time.Since(began); took >= slowWrite {
		select {
		case d.slow <- took:
		default: // one is being looked at
		}
	}
	return err
}

// handOver gives leadership to another member when this one's disk is slow, until the store closes.
func (s *Store) handOver() {
	var last time.Time
	for {
		var took time.Duration
		select {
		case took = <-s.disk.slow:
		case <-s.stopped:
			return
		}
		s.cfg.Logger.Warn("a write of the log was slow: look at the disk", "took", took.Round(time.Millisecond))
		if !s.Leader().Self || (!last.IsZero() && time.Since(last) < handOverEvery) {
			continue
		}
		f := s.raft.LeadershipTransfer()
		endWith(f, s.down)
		if err := f.Error(); err != nil {
			s.cfg.Logger.Warn("leadership was not handed over", "error", err)
			continue
		}
		last = time.Now()
	}
}
