package raftstore

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/btree"
)

// View is an immutable state: the one after the last whole entry, or an earlier one (At). It costs nothing to take, and any number of
// goroutines may read it. It pins the versions that it shows: do not keep one longer than a request.
type View struct {
	rev   uint64
	stamp int64
	tables
	floor   *atomic.Uint64
	touches *touches
	places  *places
	indexOf func(*Record) []string
	// past tells that rev is before that of the tables.
	past bool
}

// indexItem is one row of the index: what the injected index function made of a record, and the record.
type indexItem struct {
	key string
	rec *Record
}

const degree = 32

func newKeys() *btree.BTreeG[*Record] {
	return btree.NewG(degree, func(a, b *Record) bool { return a.Key < b.Key })
}

func newIndex() *btree.BTreeG[indexItem] {
	return btree.NewG(degree, func(a, b indexItem) bool { return a.key < b.key })
}

// Rev is the revision that the view shows: the last one of a whole entry, or what At was asked for.
func (v *View) Rev() uint64 { return v.rev }

// Time is the time of the last entry, never before an earlier one's. A view that At made has that of the view it was made of.
func (v *View) Time() time.Time { return time.Unix(0, v.stamp).UTC() }

// Floor is the revision up to which the history is compacted: At answers for it and for later ones.
func (v *View) Floor() uint64 { return v.floor.Load() }

// At returns the state as it was at a revision, also one inside an entry. It costs nothing; reading it costs a step for each version
// since. Its reads show nothing wrong as long as Err is nil: ask Err after reading. Errors: ErrCompacted below Floor, ErrFuture above
// the view's own revision.
func (v *View) At(rev uint64) (*View, error) {
	switch {
	case rev > v.rev:
		return nil, fmt.Errorf("read at revision %d: %w: this server is at %d", rev, ErrFuture, v.rev)
	case rev == v.rev:
		return v, nil
	case rev < v.floor.Load():
		return nil, compactedErr(rev, v.floor.Load())
	}
	p := *v
	p.rev, p.past = rev, true
	return &p, nil
}

// Err is ErrCompacted if the history was compacted beyond the view's revision since At made it: what was read may then lack versions, and
// must not be used. It is always nil for a view that At did not make.
func (v *View) Err() error {
	if floor := v.floor.Load(); v.past && v.rev < floor {
		return compactedErr(v.rev, floor)
	}
	return nil
}

func compactedErr(rev, floor uint64) error {
	return fmt.Errorf("read at revision %d: %w: the oldest is %d", rev, ErrCompacted, floor)
}

// Get returns the record of a key.
func (v *View) Get(key string) (*Record, bool) {
	r, ok := v.keys.Get(&Record{Key: key})
	if !v.past {
		return r, ok
	}
	if !ok {
		r, _ = v.graves.Get(&Record{Key: key})
	}
	r = r.asOf(v.rev)
	return r, r != nil
}

// Len is the number of keys. It costs nothing, but for a view that At made.
func (v *View) Len() int {
	if v.past {
		return v.Count(Span{})
	}
	return v.keys.Len()
}

// Range yields the records whose keys begin with prefix, in the order of keys.
func (v *View) Range(prefix string) iter.Seq[*Record] { return v.RangeFrom(prefix, prefix) }

// RangeFrom is Range from the key start on (start included), for reading a long range in pages.
func (v *View) RangeFrom(prefix, start string) iter.Seq[*Record] {
	sp := Prefix(prefix)
	sp.From = max(sp.From, start)
	return func(yield func(*Record) bool) { v.walk(sp, false, yield) }
}

// Indexed yields the records for which the index function gave a key that begins with prefix, in the order of those keys. A view that At
// made has no index: it makes the rows of all its records first.
func (v *View) Indexed(prefix string) iter.Seq[*Record] {
	if v.past {
		return v.indexedPast(prefix)
	}
	return func(yield func(*Record) bool) {
		v.index.AscendGreaterOrEqual(indexItem{key: prefix}, func(i indexItem) bool {
			return strings.HasPrefix(i.key, prefix) && yield(i.rec)
		})
	}
}

func (v *View) indexedPast(prefix string) iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		var rows []indexItem
		v.walk(Span{}, false, func(r *Record) bool {
			for _, k := range v.indexOf(r) {
				if strings.HasPrefix(k, prefix) {
					rows = append(rows, indexItem{k, r})
				}
			}
			return true
		})
		slices.SortFunc(rows, func(a, b indexItem) int { return strings.Compare(a.key, b.key) })
		for _, i := range rows {
			if !yield(i.rec) {
				return
			}
		}
	}
}

// Equal tells in what two views differ, or nil: for checks that members agree.
func Equal(a, b *View) error {
	if a.rev != b.rev || a.stamp != b.stamp || a.Floor() != b.Floor() || a.Len() != b.Len() || a.index.Len() != b.index.Len() || a.leases.Len() != b.leases.Len() {
		return fmt.Errorf("revision %d and %d, time %d and %d, floor %d and %d, %d and %d keys, %d and %d index rows, %d and %d leases",
			a.rev, b.rev, a.stamp, b.stamp, a.Floor(), b.Floor(), a.Len(), b.Len(), a.index.Len(), b.index.Len(), a.leases.Len(), b.leases.Len())
	}
	if !sameTallies(a, b) {
		return fmt.Errorf("at revision %d the counted rows differ", a.rev)
	}
	var err error
	a.walk(Span{}, false, func(r *Record) bool {
		if p, ok := b.Get(r.Key); !ok || !p.same(r) {
			err = fmt.Errorf("key %s differs at revision %d", r.Key, r.ModRev)
		}
		return err == nil
	})
	a.leases.Ascend(func(l *Lease) bool {
		if o, ok := b.leases.Get(l); !ok || *o != *l {
			err = fmt.Errorf("lease %d differs", l.ID)
		}
		return err == nil
	})
	return err
}

func (r *Record) same(o *Record) bool {
	return bytes.Equal(o.Value, r.Value) && o.ModRev == r.ModRev && o.CreateRev == r.CreateRev && o.Version == r.Version && o.Lease == r.Lease && o.ref == r.ref
}
