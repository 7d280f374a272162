package raftstore

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// versions is the part of the state that bounds its history.
//
// Which versions the history shows follows from floor alone, the revision of the last compaction: the newest of each key, and every
// other one that was there at floor or later (shown). They are taken out of memory afterwards, a slice at a time (collect), so that a
// compaction of a million versions holds nobody up.
type versions struct {
	// floor is shared with views, which ask it after they have read. It never falls.
	floor *atomic.Uint64
	// heirs are the versions that have a previous one, in order: what is behind one that is as old as floor may go.
	heirs []*Record
	// moments tell when the store was at which revision, oldest first; since is how many bytes were superseded after the last of them.
	moments []moment
	since   uint64
}

// moment is a place in the history where it may be cut: the state was at rev when entries were decided at stamp. bytes is the size of the
// versions superseded between the moment before and this one.
type moment struct {
	stamp int64
	rev   uint64
	bytes uint64
}

// A moment is noted after so many nanoseconds, revisions or bytes; the oldest go when there are maxMoments, if nobody compacts.
const (
	momentTime  = int64(10e9)
	momentRevs  = 1024
	momentBytes = 1 << 20
	maxMoments  = 4096
)

func newVersions() versions { return versions{floor: new(atomic.Uint64)} }

// freeze is a copy for a snapshot, whose floor stays.
func (v *versions) freeze() versions {
	f := versions{floor: new(atomic.Uint64), moments: slices.Clone(v.moments), since: v.since}
	f.floor.Store(v.floor.Load())
	return f
}

// supersede notes that r takes the place of prev.
func (v *versions) supersede(r, prev *Record) {
	r.prev.Store(prev)
	v.heirs = append(v.heirs, r)
	if !prev.tomb { // a tombstone may be out of memory on another member, and must count alike
		v.since += uint64(len(prev.Key) + len(prev.Value))
	}
}

// note is called before an entry changes the state.
func (s *state) note() {
	if n := len(s.moments); n > 0 {
		last := s.moments[n-1]
		if since := s.stamp - last.stamp; since >= 0 && since < momentTime && s.rev-last.rev < momentRevs && s.since < momentBytes {
			return
		}
		if s.rev == last.rev {
			s.moments[n-1].stamp = s.stamp
			return
		}
	}
	s.moments = append(s.moments, moment{s.stamp, s.rev, s.since})
	s.since = 0
	if len(s.moments) > maxMoments {
		s.moments[1].bytes += s.moments[0].bytes
		s.moments = s.moments[1:]
	}
}

// compact moves floor up to rev, and returns it.
func (s *state) compact(rev uint64) uint64 {
	if rev > s.floor.Load() {
		s.floor.Store(rev)
	}
	rev = s.floor.Load()
	s.moments = slices.DeleteFunc(s.moments, func(m moment) bool { return m.rev < rev })
	return rev
}

// Retain bounds the history; a bound of 0 does not.
type retain struct{ revisions, size uint64 }

// due is the revision up to which the history should be compacted to keep within r, or 0.
func (s *state) due(r retain) uint64 {
	size := s.since
	for _, m := range slices.Backward(s.moments) {
		if r.revisions > 0 && s.rev-m.rev >= r.revisions || r.size > 0 && size >= r.size {
			if m.rev > s.floor.Load() {
				return m.rev
			}
			return 0
		}
		size += m.bytes
	}
	return 0
}

// collect takes up to n versions out of memory that the history no longer shows, and tells whether there may be more. It changes nothing
// that a view shows which is not compacted.
func (s *state) collect(n int) bool {
	floor := s.floor.Load()
	for len(s.heirs) > 0 && s.heirs[0].ModRev < floor {
		if n--; n < 0 {
			return true
		}
		r := s.heirs[0]
		s.heirs[0] = nil
		s.heirs = s.heirs[1:]
		r.prev.Store(nil)
		if !r.tomb {
			continue
		}
		if g, ok := s.graves.Get(r); ok && g == r {
			s.graves.Delete(r)
		}
	}
	return false
}

// shown calls fn for the versions of a key that the history shows, newest first; r is the newest of all.
func (v *versions) shown(r *Record, fn func(*Record)) {
	floor := v.floor.Load()
	for r != nil {
		if !r.tomb || r.ModRev >= floor {
			fn(r)
		}
		prev := r.prev.Load()
		if r.ModRev <= floor && prev != nil && prev.ModRev < floor || r.ModRev < floor {
			return
		}
		r = prev
	}
}

// adopt orders the heirs of a state that was read from a snapshot.
func (v *versions) adopt() {
	slices.SortFunc(v.heirs, func(a, b *Record) int { return cmp.Or(cmp.Compare(a.ModRev, b.ModRev), cmp.Compare(a.sub, b.sub)) })
}
