package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/google/btree"
)

// Lease is a lease as all members know it: keys that hang on it go when it is revoked. It is shared and never changes.
type Lease struct {
	// ID is above 0. TTL is how many seconds it lives without a renewal.
	ID, TTL int64
	// Granted is the place in the log of the entry that granted it: it tells this lease from a later one of the same ID.
	Granted uint64
	// Remaining is how many seconds it had left at its last checkpoint, 0 if there was none since it was granted.
	Remaining int64
}

// attachment is a key that hangs on a lease.
type attachment struct {
	lease int64
	key   string
}

func newLeaseTable() *btree.BTreeG[*Lease] {
	return btree.NewG(degree, func(a, b *Lease) bool { return a.ID < b.ID })
}

func newAttachments() *btree.BTreeG[attachment] {
	return btree.NewG(degree, func(a, b attachment) bool {
		return a.lease < b.lease || a.lease == b.lease && a.key < b.key
	})
}

// MaxLeaseTTL is the greatest TTL in seconds, etcd's.
const MaxLeaseTTL = 9_000_000_000

// LeaseGrant is the operation that makes a lease. It takes no revision. The entry is refused if the ID is taken or not above 0, or the TTL
// is not in 1..MaxLeaseTTL.
func LeaseGrant(id, ttl int64) Op {
	return Op{Kind: opLeaseGrant, Value: u64s(nil, uint64(id), uint64(ttl))}
}

// LeaseRevoke is the operation that ends a lease and deletes the keys that hang on it, in their order and at one revision; if none does,
// it takes no revision. If granted is not 0 it does nothing unless the lease is the one of that Lease.Granted, and if term is not 0
// unless the entry stands in the log under that term: an expiry that a leader found must not end what a later leader has renewed.
func LeaseRevoke(id int64, granted, term uint64) Op {
	return Op{Kind: opLeaseRevoke, Value: u64s(nil, uint64(id), granted, term)}
}

// Revokes tells which lease a LeaseRevoke ends, its granted and its term.
func (op *Op) Revokes() (id int64, granted, term uint64, ok bool) {
	f, err := leaseFields(*op, 3)
	if op.Kind != opLeaseRevoke || err != nil {
		return 0, 0, 0, false
	}
	return int64(f[0]), f[1], f[2], true
}

// LeaseCheckpoint is the operation that writes down how many seconds leases have left, for the next leader. Those that were revoked or
// granted anew meanwhile are passed over. It takes no revision.
func LeaseCheckpoint(leases []Lease) Op {
	var b []byte
	for _, l := range leases {
		b = u64s(b, uint64(l.ID), l.Granted, uint64(l.Remaining))
	}
	return Op{Kind: opLeaseCheckpoint, Value: b}
}

// Lease returns a lease.
func (v *View) Lease(id int64) (*Lease, bool) { return v.leases.Get(&Lease{ID: id}) }

// Leases yields all leases in the order of their IDs. They are those of the newest revision, also in a view that At made.
func (v *View) Leases() iter.Seq[*Lease] {
	return func(yield func(*Lease) bool) { v.leases.Ascend(yield) }
}

// LeaseKeys yields the keys that hang on a lease, in order. They are those of the newest revision, also in a view that At made.
func (v *View) LeaseKeys(id int64) iter.Seq[string] { return v.leaseKeys(id) }

func (t *tables) leaseKeys(id int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		t.attached.AscendGreaterOrEqual(attachment{lease: id}, func(a attachment) bool { return a.lease == id && yield(a.key) })
	}
}

func (t *tables) hasLeaseKeys(id int64) bool {
	for range t.leaseKeys(id) {
		return true
	}
	return false
}

// leaseFields reads a lease operation's value: n numbers.
func leaseFields(op Op, n int) ([]uint64, error) {
	if len(op.Value) != 8*n {
		return nil, fmt.Errorf("a lease operation has %d bytes, not %d", len(op.Value), 8*n)
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = binary.BigEndian.Uint64(op.Value[8*i:])
	}
	return out, nil
}

// leaseCheck follows which leases an entry's operations make and end, while they are checked.
type leaseCheck struct {
	s  *state
	at position
	// now holds what the entry changed: the Granted of a lease that it made, 0 for one that it ended.
	now map[int64]uint64
}

// granted is the Granted of a lease at this place in the entry, 0 if there is none.
func (c *leaseCheck) granted(id int64) uint64 {
	if g, ok := c.now[id]; ok {
		return g
	}
	if l, ok := c.s.leases.Get(&Lease{ID: id}); ok {
		return l.Granted
	}
	return 0
}

func (c *leaseCheck) exists(id int64) bool { return c.granted(id) != 0 }

func (c *leaseCheck) set(id int64, granted uint64) {
	if c.now == nil {
		c.now = map[int64]uint64{}
	}
	c.now[id] = granted
}

// op checks one operation; took tells that it takes a revision.
func (c *leaseCheck) op(op Op) (took bool, err error) {
	switch op.Kind {
	case opLeaseGrant:
		f, err := leaseFields(op, 2)
		if err != nil {
			return false, err
		}
		id, ttl := int64(f[0]), int64(f[1])
		if id <= 0 || ttl <= 0 || ttl > MaxLeaseTTL {
			return false, fmt.Errorf("lease %d with a TTL of %d s cannot be granted", id, ttl)
		}
		if c.exists(id) {
			return false, fmt.Errorf("lease %d exists", id)
		}
		c.set(id, c.at.index)
	case opLeaseRevoke:
		f, err := leaseFields(op, 3)
		if err != nil {
			return false, err
		}
		if id := int64(f[0]); c.s.ends(c.granted(id), f, c.at) {
			c.set(id, 0)
			return c.s.hasLeaseKeys(id), nil
		}
	case opLeaseCheckpoint:
		if len(op.Value)%24 != 0 {
			return false, errors.New("a checkpoint of leases is cut")
		}
	}
	return false, nil
}

// ends tells whether a revocation with the fields f ends the lease that was granted at granted.
func (*state) ends(granted uint64, f []uint64, at position) bool {
	return granted != 0 && (f[1] == 0 || f[1] == granted) && (f[2] == 0 || f[2] == at.term)
}

// lease performs a lease operation that check has passed.
func (s *state) lease(op Op, at position, fx *effects) {
	switch op.Kind {
	case opLeaseGrant:
		f, _ := leaseFields(op, 2)
		l := &Lease{ID: int64(f[0]), TTL: int64(f[1]), Granted: at.index}
		s.leases.ReplaceOrInsert(l)
		fx.granted = append(fx.granted, l)
	case opLeaseRevoke:
		f, _ := leaseFields(op, 3)
		l, ok := s.leases.Get(&Lease{ID: int64(f[0])})
		if !ok || !s.ends(l.Granted, f, at) {
			return
		}
		s.leases.Delete(l)
		fx.revoked = append(fx.revoked, l.ID)
		var keys []string
		for k := range s.leaseKeys(l.ID) {
			keys = append(keys, k)
		}
		for i, k := range keys {
			s.step(i > 0)
			s.delete(k, fx)
		}
	case opLeaseCheckpoint:
		for b := op.Value; len(b) > 0; b = b[24:] {
			id, granted, left := int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:]), int64(binary.BigEndian.Uint64(b[16:]))
			if l, ok := s.leases.Get(&Lease{ID: id}); ok && l.Granted == granted {
				s.leases.ReplaceOrInsert(&Lease{ID: id, TTL: l.TTL, Granted: granted, Remaining: min(max(left, 1), l.TTL)})
			}
		}
	}
}
