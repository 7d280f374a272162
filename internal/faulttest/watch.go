package faulttest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// fact is what stands at a revision.
type fact struct {
	key, value string
	deleted    bool
}

// stream is one connection of one watcher.
type stream struct {
	member string
	// from is the revision after which it was to begin, upTo the one up to which it said it was complete.
	from, upTo uint64
	revs       []uint64
}

// ledger is what all watchers saw: each revision has one meaning, whoever tells it. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	facts   map[uint64]fact
	streams []*stream
	gone    int
	faults  []string
}

func newLedger() *ledger { return &ledger{facts: map[uint64]fact{}} }

// maxFaults is how many faults of one run are told.
const maxFaults = 20

func (l *ledger) faultLocked(format string, args ...any) {
	if len(l.faults) < maxFaults {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *ledger) open(member string, from uint64) *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &stream{member: member, from: from, upTo: from}
	l.streams = append(l.streams, s)
	return s
}

// take notes one line of a stream: ordered and unique within it, and the same as others saw.
func (l *ledger) take(s *stream, e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.Gone:
		l.gone++
		return
	case e.Key == "":
		if e.Rev < s.upTo {
			l.faultLocked("a watch on %s after revision %d went back: complete up to %d after %d", s.member, s.from, e.Rev, s.upTo)
		}
		s.upTo = max(s.upTo, e.Rev)
		return
	case e.Rev <= s.upTo:
		l.faultLocked("a watch on %s after revision %d told %d (%s) after it was complete up to %d", s.member, s.from, e.Rev, e.Key, s.upTo)
	}
	s.revs = append(s.revs, e.Rev)
	s.upTo = max(s.upTo, e.Rev)
	have, want := fact{e.Key, e.Value, e.Deleted}, l.facts[e.Rev]
	if _, known := l.facts[e.Rev]; known && have != want {
		l.faultLocked("revision %d is %+v on %s, and was %+v elsewhere", e.Rev, have, s.member, want)
		return
	}
	l.facts[e.Rev] = have
}

// check compares every stream with all that is known, and every acknowledged write with what stands at its revision.
func (l *ledger) check(ops []operation) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]uint64, 0, len(l.facts))
	for rev := range l.facts {
		all = append(all, rev)
	}
	slices.Sort(all)
	for _, s := range l.streams {
		l.completeLocked(s, all)
	}
	owners := map[uint64]operation{}
	for _, op := range ops {
		if op.Out.Rev == 0 || (op.In.Kind == opObjectSet && op.In.deletes()) {
			continue // what deletes an object is answered with the last revision of an entry that it may share
		}
		if other, taken := owners[op.Out.Rev]; taken {
			l.faultLocked("two writes were acknowledged with revision %d: %s and %s", op.Out.Rev, describe(other.In, other.Out), describe(op.In, op.Out))
		}
		owners[op.Out.Rev] = op
		l.ownerLocked(op)
	}
	return l.faults
}

// completeLocked finds what a stream left out of what it said it was complete about.
func (l *ledger) completeLocked(s *stream, all []uint64) {
	lo, _ := slices.BinarySearch(all, s.from+1)
	hi, _ := slices.BinarySearch(all, s.upTo+1)
	if want := all[lo:max(lo, hi)]; !slices.Equal(want, s.revs) {
		missing := slices.DeleteFunc(slices.Clone(want), func(rev uint64) bool { return slices.Contains(s.revs, rev) })
		l.faultLocked("a watch on %s from revision %d to %d told %d events of %d; it left out %v …", s.member, s.from, s.upTo, len(s.revs), len(want), missing[:min(len(missing), 10)])
	}
}

// ownerLocked compares an acknowledged write with the event of its revision. Deleting what is not there makes no event.
func (l *ledger) ownerLocked(op operation) {
	if !strings.HasPrefix(op.In.Key, keyPrefix) {
		return // nobody watches it
	}
	f, seen := l.facts[op.Out.Rev]
	switch {
	case !seen && (op.In.Kind == opDelete || !l.coveredLocked(op.Out.Rev)):
	case !seen:
		l.faultLocked("no watch told of revision %d, which was acknowledged: %s", op.Out.Rev, describe(op.In, op.Out))
	case f.key != op.In.Key || f.deleted != op.In.deletes() || (!f.deleted && f.value != op.In.Value):
		l.faultLocked("revision %d is %+v, but was acknowledged as %s", op.Out.Rev, f, describe(op.In, op.Out))
	}
}

// coveredLocked tells whether any watch has passed a revision.
func (l *ledger) coveredLocked(rev uint64) bool {
	for _, s := range l.streams {
		if s.from < rev && rev <= s.upTo {
			return true
		}
	}
	return false
}

// position is where a watcher that saw everything up to rev goes on: mostly there, now and then at an earlier event of its own.
func (l *ledger) position(s *stream, back int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if back > 0 && len(s.revs) > back {
		return s.revs[len(s.revs)-back]
	}
	return s.upTo
}
