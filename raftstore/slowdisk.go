package raftstore

import "time"

// slowWrite is how long one write of the log may take before a leader hands leadership over: everybody waits for a leader's disk, while a
// follower's slow disk holds up nobody as long as there is another. handOverEvery is how often it does, for all disks may be slow.
const (
	slowWrite     = 2 * time.Second
	handOverEvery = time.Minute
)

// timed runs a write of the log and tells slow if it took too long.
func (d *durable) timed(write func() error) error {
	began := time.Now()
	err := write()
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
