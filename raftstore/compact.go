package raftstore

import (
	"context"
	"fmt"
	"time"
)

// Compact forgets the history before rev: watches from earlier revisions and reads at them get ErrCompacted. The state at rev itself, and the
// events of that revision, stay. Only the leader can. Errors: ErrCompacted if it has gone so far already, ErrFuture beyond the newest
// revision, else Propose's.
func (s *Store) Compact(ctx context.Context, rev uint64) error {
	v := s.View()
	switch {
	case rev > v.Rev():
		return fmt.Errorf("compact up to revision %d: %w: this server is at %d", rev, ErrFuture, v.Rev())
	case rev <= v.Floor():
		return fmt.Errorf("compact up to revision %d: %w: it has gone to %d", rev, ErrCompacted, v.Floor())
	}
	if _, err := s.proposeOwn(ctx, Compaction(rev)); err != nil {
		return fmt.Errorf("compact up to revision %d: %w", rev, err)
	}
	return nil
}

// Compaction is the operation that forgets the history before rev, for one who decides it at the head of the log. It takes no revision.
func Compaction(rev uint64) Op { return Op{Kind: opCompact, Value: u64s(nil, rev)} }

// compactEvery is how often the leader looks whether the history has outgrown its bounds.
const compactEvery = 10 * time.Second

// bound has the leader keep the history within its bounds.
func (s *Store) bound() {
	s.every(compactEvery, func(time.Time) {
		if s.Leader().Self {
			s.boundOnce()
		}
	})
}

// sweep takes out of memory what the history no longer shows, on every member.
func (s *Store) sweep() {
	for {
		select {
		case <-s.stopped:
			return
		case <-s.fatal:
			return
		case <-s.fsm.compacted:
			for s.fsm.collectVersions() {
			}
		}
	}
}

func (s *Store) boundOnce() {
	rev := s.fsm.due(retain{age: int64(s.cfg.RetainAge), revisions: s.cfg.RetainRevisions, size: s.cfg.RetainBytes})
	if rev == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), enqueueTimeout)
	defer cancel()
	if err := s.Compact(ctx, rev); err != nil {
		s.cfg.Logger.Debug("the history was not compacted; the next round tries again", "revision", rev, "error", err)
	}
}

func (f *fsm) due(r retain) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st.due(r)
}
