package raftstore

import "sync/atomic"

// Record is one stored version of one key. It is shared by all readers and never changes, but for the slot of Decoded and the link to
// the version before, which a compaction cuts.
type Record struct {
	// Key is the key, Value the stored bytes (nil in the record that stands for a deletion).
	Key   string
	Value []byte
	// ModRev is the revision of this version, CreateRev that of the key's first one since it last did not exist, Version counts from 1 at
	// creation. A deletion has a ModRev only.
	ModRev, CreateRev, Version uint64
	// Lease is the lease that the key hangs on, or 0.
	Lease int64

	ref  bool
	tomb bool
	// sub orders the versions of one revision.
	sub     uint32
	index   []string
	decoded atomic.Pointer[any]
	prev    atomic.Pointer[Record]
}

// Deleted tells that the record stands for a deletion.
func (r *Record) Deleted() bool { return r.tomb }

// Decoded returns what decode made of the record the first time it was asked; all readers share the answer. Two first callers at
// the same time may both decode, one answer is kept.
func (r *Record) Decoded(decode func(*Record) any) any {
	if p := r.decoded.Load(); p != nil {
		return *p
	}
	v := decode(r)
	r.decoded.CompareAndSwap(nil, &v)
	if p := r.decoded.Load(); p != nil {
		return *p
	}
	return v // the history forgot it meanwhile
}

func (r *Record) setDecoded(v any) {
	if v != nil {
		r.decoded.Store(&v)
	}
}

// forget lets go of what was decoded: a version that only the history still shows is seldom asked for.
func (r *Record) forget() { r.decoded.Store(nil) }

// size is about how many bytes the record holds on to.
func (r *Record) size() int { return len(r.Key) + len(r.Value) + recordSize }

// recordSize is what a Record takes besides key and value.
const recordSize = 176

// asOf is the version of the chain that begins with r that was there at a revision, or nil for none.
func (r *Record) asOf(rev uint64) *Record {
	for r != nil && r.ModRev > rev {
		r = r.prev.Load()
	}
	if r == nil || r.tomb {
		return nil
	}
	return r
}

// before orders versions by revision, and those of one revision as they were written.
func (r *Record) before(o *Record) bool {
	return r.ModRev < o.ModRev || r.ModRev == o.ModRev && r.sub < o.sub
}
