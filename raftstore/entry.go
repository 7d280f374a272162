package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"reconcile/internal/mutant"
)

// MaxEntry is the size in bytes up to which an encoded entry may go into the log. A larger one would hold up the heartbeats that
// share its way; it is staged as a blob first.
const MaxEntry = 256 << 10

// Format is the version of the entry's envelope, and FeatureLevel the level of what its operations may mean. A member that
// reads a greater one stops: skipping the entry would make its state differ from the others'.
const (
	Format       = 1
	FeatureLevel = 3
)

// OpKind is what an operation of an entry does.
type OpKind uint8

// The kinds of operations. Put, PutRef and Delete take one revision each, or share that of the operation before (Op.SameRev); those that
// functions make (LeaseGrant, LeaseRevoke, LeaseCheckpoint) are described there. The others take none.
const (
	// Put stores Value under Key.
	Put OpKind = 1 + iota
	// Delete removes Key; deleting what is not there takes a revision and makes no event.
	Delete
	// PutRef is Put where Value is the digest of a complete blob, which lives as long as a key holds it by PutRef.
	PutRef

	// opChunk adds a piece to a staged blob; opPacked performs the operations that its value holds, compressed, and opSwitch those
	// that a complete blob holds in the same form; opDrop forgets a blob that nothing refers to; opCompact cuts the history.
	opChunk
	opPacked
	opSwitch
	opDrop
	opCompact
	opLeaseGrant
	opLeaseRevoke
	opLeaseCheckpoint
	opTouch
	opPlace // of feature level 3

	opLast = opPlace
)

// Op is one decided write. The store keeps Key and Value: the caller must not change Value afterwards.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte
	// Lease, if not 0, is the lease that a Put hangs its key on: the key goes when the lease goes. The entry is refused if there is no
	// such lease.
	Lease int64
	// SameRev makes a Put or Delete share the revision of the write before it in the entry, as the writes of one etcd transaction do.
	// An entry whose first write has it is refused.
	SameRev bool
	// Decoded, if set, is what Value means, for Record.Decoded on the member that proposes: it saves decoding it again.
	// It is not replicated.
	Decoded any
}

// Entry is a decided transaction.
type Entry struct {
	// Base is the revision that the entry was decided on. A member whose revision is another refuses the whole entry.
	Base uint64
	// Time is when it was decided, in nanoseconds since 1970; 0 does not say. The store's time (View.Time) follows it, and goes back only where
	// it lies more than a minute behind: somebody has set a clock right.
	Time int64
	// Nonce identifies the entry among those of this member; 0 takes the next one. Outcome finds it again.
	Nonce uint64
	// Ops are the writes; without SameRev op i gets revision Base+1+i. A key should stand only once among them.
	Ops []Op

	node uint64
	// own are the operations as this member proposed them, for their decoded values.
	own []Op
}

// The envelope, big endian:
//
//	0 format u8 | 1 flags u8 | 2 feature level u16 | 4 crc32c u32 | 8 base u64 | 16 time i64 | 24 node u64 | 32 nonce u64 | 40 count u32
//	44 count * ( kind u8 | uvarint len, key | uvarint len, value | lease i64 if the kind has bitLease )
//
// The checksum covers everything but itself.
const headerSize = 44

// The high bits of an operation's kind.
const (
	bitSameRev = 0x80
	bitLease   = 0x40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errOlder tells of a snapshot that this version cannot read, for it holds no history of the keys: members that read it would differ from those
// that did not.
var errOlder = errors.New("the snapshot was written by a version from before the store kept the history of keys (part 1), which this one cannot read. " +
	"If another server of the cluster already runs this version, empty the folder and join through it (--join). Else begin a new cluster with an empty folder, " +
	"and push the repository again: its objects are what was pushed. What was made without git must be saved first, with kubectl get -o yaml by the old version")

// errNewer and errChecksum make a member stop; errMalformed refuses the entry, on every member alike.
var (
	errNewer     = errors.New("the entry was written by a newer version")
	errChecksum  = errors.New("the entry's checksum does not match")
	errMalformed = errors.New("the entry is malformed")
)

// encode returns the entry's bytes.
func (e *Entry) encode() []byte {
	b := make([]byte, headerSize, headerSize+opsSize(e.Ops))
	b[0] = Format
	ops := e.Ops
	if e.own != nil { // what is packed or staged
		ops = e.own
	}
	binary.BigEndian.PutUint16(b[2:], needsLevel(ops))
	binary.BigEndian.PutUint64(b[8:], e.Base)
	binary.BigEndian.PutUint64(b[16:], uint64(e.Time))
	binary.BigEndian.PutUint64(b[24:], e.node)
	binary.BigEndian.PutUint64(b[32:], e.Nonce)
	binary.BigEndian.PutUint32(b[40:], uint32(len(e.Ops)))
	b = appendOps(b, e.Ops)
	binary.BigEndian.PutUint32(b[4:], checksum(b))
	return b
}

// Size is about how many bytes the ops take in an entry, from above; an entry holds at most MaxEntry.
func Size(ops []Op) int { return headerSize + opsSize(ops) }

func opsSize(ops []Op) int {
	n := 0
	for _, op := range ops {
		n += 1 + 2*binary.MaxVarintLen32 + len(op.Key) + len(op.Value) + 8
	}
	return n
}

func appendOps(b []byte, ops []Op) []byte {
	for _, op := range ops {
		kind := byte(op.Kind)
		if op.SameRev {
			kind |= bitSameRev
		}
		if op.Lease != 0 {
			kind |= bitLease
		}
		b = append(b, kind)
		b = binary.AppendUvarint(b, uint64(len(op.Key)))
		b = append(b, op.Key...)
		b = binary.AppendUvarint(b, uint64(len(op.Value)))
		b = append(b, op.Value...)
		if op.Lease != 0 {
			b = binary.BigEndian.AppendUint64(b, uint64(op.Lease))
		}
	}
	return b
}

// checksum is the CRC-32C of an envelope without its own four bytes.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:4], castagnoli), castagnoli, b[8:])
}

// decodeEntry reads an envelope. The ops' values share b. Errors are errNewer, errChecksum or errMalformed.
func decodeEntry(b []byte) (*Entry, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: it has %d bytes, less than a header", errChecksum, len(b))
	}
	if b[0] != Format {
		return nil, fmt.Errorf("%w: format %d, this version knows %d", errNewer, b[0], Format)
	}
	if want, have := binary.BigEndian.Uint32(b[4:]), checksum(b); want != have && !mutant.IgnoreChecksum {
		return nil, fmt.Errorf("%w: it says %08x, its bytes make %08x", errChecksum, want, have)
	}
	if level := binary.BigEndian.Uint16(b[2:]); level > FeatureLevel || b[1] != 0 {
		return nil, fmt.Errorf("%w: feature level %d, flags %#x; this version knows level %d", errNewer, level, b[1], FeatureLevel)
	}
	e := &Entry{
		Base:  binary.BigEndian.Uint64(b[8:]),
		Time:  int64(binary.BigEndian.Uint64(b[16:])),
		node:  binary.BigEndian.Uint64(b[24:]),
		Nonce: binary.BigEndian.Uint64(b[32:]),
	}
	ops, err := decodeOps(b[headerSize:], binary.BigEndian.Uint32(b[40:]))
	if err != nil {
		return nil, err
	}
	e.Ops = ops
	return e, nil
}

// decodeOps reads a list of operations. A value is copied where it would keep a list alive that is more than twice its size: values
// live long, and lists are made of many.
func decodeOps(b []byte, count uint32) ([]Op, error) {
	if uint64(count) > uint64(len(b))/3 {
		return nil, fmt.Errorf("%w: %d operations in %d bytes", errMalformed, count, len(b))
	}
	whole := len(b)
	ops := make([]Op, 0, count)
	for i := range count {
		op, rest, err := decodeOp(b)
		if err != nil {
			return nil, fmt.Errorf("%w: operation %d of %d %w", errMalformed, i, count, err)
		}
		if 2*len(op.Value) < whole {
			op.Value = bytes.Clone(op.Value)
		}
		ops, b = append(ops, op), rest
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the last operation", errMalformed, len(b))
	}
	return ops, nil
}

func decodeOp(b []byte) (op Op, rest []byte, err error) {
	if len(b) == 0 {
		return op, nil, errors.New("is missing")
	}
	op.Kind, op.SameRev = OpKind(b[0]&^(bitSameRev|bitLease)), b[0]&bitSameRev != 0
	if op.Kind < Put || op.Kind > opLast {
		return op, nil, fmt.Errorf("has kind %d", op.Kind)
	}
	key, rest, ok := cutBytes(b[1:])
	if !ok {
		return op, nil, errors.New("is cut in its key")
	}
	value, rest, ok := cutBytes(rest)
	if !ok {
		return op, nil, errors.New("is cut in its value")
	}
	op.Key, op.Value = string(key), value
	if b[0]&bitLease == 0 {
		return op, rest, nil
	}
	if len(rest) < 8 {
		return op, nil, errors.New("is cut in its lease")
	}
	op.Lease = int64(binary.BigEndian.Uint64(rest))
	if op.Lease == 0 {
		return op, nil, errors.New("has lease 0")
	}
	return op, rest[8:], nil
}

// cutBytes takes a uvarint length and as many bytes off b.
func cutBytes(b []byte) (head, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n) : w+int(n)], b[w+int(n):], true
}
