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

// bound has the leader keep the history within its bounds. Each member notes how old its revisions are: any may lead later.
func (s *Store) bound() {
	a := &ages{keep: s.cfg.RetainAge}
	s.every(compactEvery, func(now time.Time) {
		aged := a.look(now, s.fsm.rev())
		if s.Leader().Self {
			s.boundOnce(aged)
		}
	})
}

// ages tells which revisions are older than a time, by this member's monotonic clock: the times of entries are those of their leader's clock,
// which somebody may have set years ahead, and the history would be gone at once. After a start everything is new.
type ages struct {
	keep    time.Duration
	samples []sample // the oldest first, the first one as old as keep or older
}

type sample struct {
	at  time.Time
	rev uint64
}

// maxAges is about how many samples are kept.
const maxAges = 512

// stride is the time between two samples.
func (a *ages) stride() time.Duration { return a.keep / maxAges }

// look notes that the store is at rev now, and returns the newest revision that it was at keep ago, or earlier; 0 if that is not known.
func (a *ages) look(now time.Time, rev uint64) uint64 {
	if a.keep < 0 {
		return 0
	}
	if n := len(a.samples); n == 0 || (rev != a.samples[n-1].rev && now.Sub(a.samples[n-1].at) >= a.stride()) {
		a.samples = append(a.samples, sample{now, rev})
	}
	for len(a.samples) > 1 && now.Sub(a.samples[1].at) >= a.keep {
		a.samples = a.samples[1:]
	}
	if now.Sub(a.samples[0].at) < a.keep {
		return 0
	}
	return a.samples[0].rev
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

func (s *Store) boundOnce(aged uint64) {
	rev := max(aged, s.fsm.due(retain{revisions: s.cfg.RetainRevisions, size: s.cfg.RetainBytes}))
	if rev <= s.View().Floor() {
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
