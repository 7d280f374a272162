package raftstore

import (
	"bytes"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/google/btree"
)

// View is an immutable state: the one after the last whole entry. It costs nothing to take, and any number of goroutines may
// read it. It pins the versions that it shows: do not keep one longer than a request.
type View struct {
	rev   uint64
	stamp int64
	keys  *btree.BTreeG[*Record]
	index *btree.BTreeG[indexItem]
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

// Rev is the revision that the view shows: the last one of a whole entry.
func (v *View) Rev() uint64 { return v.rev }

// Time is the time of the last entry, never before an earlier one's.
func (v *View) Time() time.Time { return time.Unix(0, v.stamp).UTC() }

// Get returns the record of a key.
func (v *View) Get(key string) (*Record, bool) { return v.keys.Get(&Record{Key: key}) }

// Len is the number of keys.
func (v *View) Len() int { return v.keys.Len() }

// Range yields the records whose keys begin with prefix, in the order of keys.
func (v *View) Range(prefix string) iter.Seq[*Record] { return v.RangeFrom(prefix, prefix) }

// RangeFrom is Range from the key start on (start included), for reading a long range in pages.
func (v *View) RangeFrom(prefix, start string) iter.Seq[*Record] {
	if start < prefix {
		start = prefix
	}
	return func(yield func(*Record) bool) {
		v.keys.AscendGreaterOrEqual(&Record{Key: start}, func(r *Record) bool {
			return strings.HasPrefix(r.Key, prefix) && yield(r)
		})
	}
}

// Indexed yields the records for which the index function gave a key that begins with prefix, in the order of those keys.
func (v *View) Indexed(prefix string) iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		v.index.AscendGreaterOrEqual(indexItem{key: prefix}, func(i indexItem) bool {
			return strings.HasPrefix(i.key, prefix) && yield(i.rec)
		})
	}
}

// Equal tells in what two views differ, or nil: for checks that members agree.
func Equal(a, b *View) error {
	if a.rev != b.rev || a.stamp != b.stamp || a.keys.Len() != b.keys.Len() || a.index.Len() != b.index.Len() {
		return fmt.Errorf("revision %d and %d, time %d and %d, %d and %d keys, %d and %d index rows",
			a.rev, b.rev, a.stamp, b.stamp, a.keys.Len(), b.keys.Len(), a.index.Len(), b.index.Len())
	}
	var err error
	a.keys.Ascend(func(r *Record) bool {
		p, ok := b.keys.Get(r)
		if !ok || !bytes.Equal(p.Value, r.Value) || p.Rev != r.Rev || p.Created != r.Created || p.Version != r.Version || p.ref != r.ref {
			err = fmt.Errorf("key %s differs at revision %d", r.Key, r.Rev)
		}
		return err == nil
	})
	return err
}
