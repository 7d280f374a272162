package raftstore

import "encoding/binary"

// Trace is called for every entry that the state takes, in order, with what it did; one that was refused or changed nothing is left out. After
// a start it is called again for what is read from the log. It is for tools that judge the store: it holds up everything while it runs, and
// must keep nothing.
type Trace func(index uint64, ops []TracedOp)

// TracedOp is an operation as a tool reads it.
type TracedOp struct {
	// Kind is put, delete, grant, revoke or compact.
	Kind  string `json:"kind"`
	Key   string `json:"key,omitempty"`
	Value []byte `json:"value,omitempty"`
	// Lease is that of a put, or the one that is granted or revoked.
	Lease int64 `json:"lease,omitempty"`
	// Rev is how far a compaction goes.
	Rev uint64 `json:"rev,omitempty"`
	// SameRev tells that the operation shares the revision of the one before.
	SameRev bool `json:"sameRev,omitempty"`
}

func traced(ops []Op) []TracedOp {
	var out []TracedOp
	for _, op := range ops {
		t := TracedOp{Key: op.Key, Value: op.Value, Lease: op.Lease, SameRev: op.SameRev}
		switch op.Kind {
		case Put, PutRef:
			t.Kind = "put"
		case Delete:
			t.Kind = "delete"
		case opLeaseGrant, opLeaseRevoke:
			if t.Kind = "grant"; op.Kind == opLeaseRevoke {
				t.Kind = "revoke"
			}
			t.Value, t.Lease = nil, int64(binary.BigEndian.Uint64(op.Value))
		case opCompact:
			t.Kind, t.Value, t.Rev = "compact", nil, binary.BigEndian.Uint64(op.Value)
		default:
			continue
		}
		out = append(out, t)
	}
	return out
}

// traceLocked tells a tool of an entry before it is applied; the returned function is called if it was taken.
func (f *fsm) traceLocked(index uint64, e *Entry) (taken func()) {
	if f.trace == nil {
		return func() {}
	}
	var fx effects
	ops, err := f.st.expand(e.Ops, f.blobs.Get, &fx)
	if err != nil {
		return func() {} // apply finds the same, and stops
	}
	return func() { f.trace(index, traced(ops)) }
}
