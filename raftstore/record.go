package raftstore

import "sync/atomic"

// Record is one stored version of one key. It is shared by all readers and never changes, but for the slot of Decoded.
type Record struct {
	// Key is the key, Value the stored bytes (nil in the record that stands for a deletion).
	Key   string
	Value []byte
	// Rev is the revision of this version, Created that of the key's first one, Version counts from 1 at creation.
	Rev, Created, Version uint64

	ref     bool
	index   []string
	decoded atomic.Pointer[any]
}

// Decoded returns what decode made of the record the first time it was asked; all readers share the answer. Two first callers at
// the same time may both decode, one answer is kept.
func (r *Record) Decoded(decode func(*Record) any) any {
	if p := r.decoded.Load(); p != nil {
		return *p
	}
	v := decode(r)
	r.decoded.CompareAndSwap(nil, &v)
	return *r.decoded.Load()
}

func (r *Record) setDecoded(v any) {
	if v != nil {
		r.decoded.Store(&v)
	}
}

// size is about how many bytes the record holds on to.
func (r *Record) size() int { return len(r.Key) + len(r.Value) + 160 }
