package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/btree"

	"reconcile/internal/mutant"
)

// maxOutcomes is how many entries' outcomes are remembered, for proposers that did not hear theirs.
const maxOutcomes = 4096

// Outcome is what became of an entry.
type Outcome struct {
	// First and Last are the entry's block of revisions; equal to the state's revision before if it took none.
	First, Last uint64
	// Refused tells that the entry changed nothing, and Reason why.
	Refused bool
	Reason  string
}

// Err is nil, or ErrRefused with the reason.
func (o Outcome) Err() error {
	if !o.Refused {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrRefused, o.Reason)
}

// origin identifies an entry by who proposed it.
type origin struct{ node, nonce uint64 }

// state is what all members hold alike. It has no lock, no clock and no I/O: the fsm guards it. Blobs' bytes stand outside, behind
// the Blobs interface; the state holds which exist and what refers to them.
type state struct {
	rev   uint64
	stamp int64
	// sub numbers the versions of the revision rev.
	sub uint32
	tables
	versions
	touches *touches
	places  *places
	// indexOf is the injected index function.
	indexOf func(*Record) []string
	packer  *packer

	blobs    map[string]*blobInfo
	outcomes map[origin]Outcome
	order    []origin // of outcomes, oldest first
}

// tables are what views and snapshots freeze in constant time.
type tables struct {
	// keys are the newest versions of the keys that exist, graves those (tombstones) of keys that were deleted and that the history still
	// shows; older versions hang behind both (Record.prev).
	keys, graves *btree.BTreeG[*Record]
	index        *btree.BTreeG[indexItem]
	tallies      *btree.BTreeG[tally]
	leases       *btree.BTreeG[*Lease]
	attached     *btree.BTreeG[attachment]
}

func newTables() tables {
	return tables{keys: newKeys(), graves: newKeys(), index: newIndex(), tallies: newTallies(), leases: newLeaseTable(), attached: newAttachments()}
}

func (t *tables) clone() tables {
	return tables{keys: t.keys.Clone(), graves: t.graves.Clone(), index: t.index.Clone(), tallies: t.tallies.Clone(), leases: t.leases.Clone(), attached: t.attached.Clone()}
}

func newState(indexOf func(*Record) []string, packer *packer) *state {
	return &state{tables: newTables(), versions: newVersions(), touches: newTouches(), places: newPlaces(), indexOf: indexOf, packer: packer, blobs: map[string]*blobInfo{}, outcomes: map[origin]Outcome{}}
}

// effects are what an entry did besides changing the state: events for watches, blobs to write and to remove, leases for the lessor.
type effects struct {
	events  []*Event
	store   map[string][]byte
	remove  []string
	compact uint64
	granted []*Lease
	revoked []int64
}

// apply performs an entry wholly or refuses it wholly. Blobs are read through load, which must give the same on every member.
func (s *state) apply(e *Entry, at position, load func(digest string) ([]byte, error)) (Outcome, effects, error) {
	var fx effects
	ops, err := s.expand(e.Ops, load, &fx)
	if err != nil {
		return Outcome{}, fx, err
	}
	out := Outcome{First: s.rev, Last: s.rev}
	if err := s.check(e, ops, at); err != nil {
		out.Refused, out.Reason, fx = true, err.Error(), effects{}
	} else {
		s.note()
		s.tell(e.Time)
		takeDecoded(ops, e.own)
		s.perform(ops, at, &fx)
		if out.Last = s.rev; out.Last > out.First {
			out.First++
		}
		s.notePlaces(ops, at, out)
	}
	s.remember(origin{e.node, e.Nonce}, out)
	return out, fx, nil
}

// setBack is how far an entry's time must lie behind the last one's to be taken for that of a clock that was set back, in nanoseconds.
const setBack = int64(60e9)

// tell takes over the time of an entry; 0 for one that tells none. It does not run backwards, but where a clock was set right again: the time
// of a leader whose clock stood years ahead for a while would else stay for as long.
func (s *state) tell(at int64) {
	if at > s.stamp || at != 0 && at < s.stamp-setBack {
		s.stamp = at
	}
}

// takeDecoded hands the decoded values of the proposer's own operations to the same operations as they came back.
func takeDecoded(ops, own []Op) {
	if len(ops) != len(own) {
		return
	}
	for i := range ops {
		if ops[i].Key == own[i].Key {
			ops[i].Decoded = own[i].Decoded
		}
	}
}

// expand puts packed operations, and those of a switched-on blob, in the place of the operation that brings them. What cannot be
// expanded stays, and check refuses it.
func (s *state) expand(ops []Op, load func(string) ([]byte, error), fx *effects) ([]Op, error) {
	for i, op := range ops {
		body := op.Value
		switch op.Kind {
		case opPacked:
		case opSwitch:
			if b := s.blobs[op.Key]; b == nil || !b.complete() {
				continue
			}
			var err error
			if body, err = load(op.Key); err != nil {
				return nil, fmt.Errorf("switch on blob %s: %w", op.Key, err)
			}
			fx.remove = append(fx.remove, op.Key)
		default:
			continue
		}
		inner, err := s.packer.unpack(body)
		if err != nil {
			continue
		}
		// An entry brings one list at most; more stay as they are and are refused.
		return append(append(append([]Op(nil), ops[:i]...), inner...), ops[i+1:]...), nil
	}
	return ops, nil
}

// check decides whether the entry may be performed: nil, or why not.
func (s *state) check(e *Entry, ops []Op, at position) error {
	writes := false
	leases := leaseCheck{s: s, at: at}
	for i, op := range ops {
		if op.SameRev && (i == 0 || !ops[i-1].writes() || !op.writes()) {
			return fmt.Errorf("operation %d shares the revision of a write before it, and there is none", i)
		}
		if op.Lease != 0 && !leases.exists(op.Lease) {
			return fmt.Errorf("key %s names the lease %d, which does not exist", op.Key, op.Lease)
		}
		if err := s.checkOp(op); err != nil {
			return err
		}
		took, err := leases.op(op)
		if err != nil {
			return err
		}
		writes = writes || took || op.writes()
	}
	if writes && e.Base != s.rev && !mutant.SkipBase {
		return fmt.Errorf("it is based on revision %d, the store is at %d", e.Base, s.rev)
	}
	return nil
}

// writes tells whether the operation always takes a revision, or shares one.
func (op *Op) writes() bool { return op.Kind == Put || op.Kind == PutRef || op.Kind == Delete }

func (s *state) checkOp(op Op) error {
	switch op.Kind {
	case PutRef:
		if b := s.blobs[string(op.Value)]; b == nil || !b.complete() {
			return fmt.Errorf("key %s names the blob %s, which is not complete", op.Key, op.Value)
		}
	case opPacked:
		return errors.New("the packed operations cannot be read")
	case opSwitch:
		return fmt.Errorf("the staged blob %s is not there or not a list of operations", op.Key)
	case opChunk:
		if _, err := decodeChunk(op.Value); err != nil {
			return fmt.Errorf("blob %s: %w", op.Key, err)
		}
	case opTouch:
		return eachTouch(op.Value, func([]byte, int64) {})
	case opCompact:
		if len(op.Value) != 8 {
			return fmt.Errorf("a compaction has %d bytes for its revision", len(op.Value))
		}
	}
	return nil
}

func (s *state) perform(ops []Op, at position, fx *effects) {
	for _, op := range mutant.Order(ops) {
		switch op.Kind {
		case Put, PutRef:
			s.step(op.SameRev)
			s.put(op, fx)
		case Delete:
			s.step(op.SameRev)
			s.delete(op.Key, fx)
		case opChunk:
			s.chunk(op, at, fx)
		case opDrop:
			s.drop(op.Key, fx)
		case opCompact:
			fx.compact = s.compact(min(binary.BigEndian.Uint64(op.Value), s.rev))
		case opLeaseGrant, opLeaseRevoke, opLeaseCheckpoint:
			s.lease(op, at, fx)
		case opTouch:
			s.touch(op)
		}
	}
	fx.remove = slices.DeleteFunc(fx.remove, func(digest string) bool { return s.blobs[digest] != nil && s.blobs[digest].refs > 0 })
	for _, digest := range fx.remove {
		delete(s.blobs, digest)
	}
}

// step goes on to the next revision, or to the next version of this one.
func (s *state) step(same bool) {
	if same {
		s.sub++
		return
	}
	s.rev, s.sub = s.rev+1, 0
}

func (s *state) put(op Op, fx *effects) {
	r := &Record{Key: op.Key, Value: op.Value, ModRev: s.rev, CreateRev: s.rev, Version: 1, Lease: op.Lease, ref: op.Kind == PutRef, sub: s.sub}
	r.setDecoded(op.Decoded)
	// One walk of the tree finds the version before and replaces it. Nobody sees the record before the entry is done.
	prev, had := s.keys.ReplaceOrInsert(r)
	if had {
		r.Key, r.CreateRev, r.Version = prev.Key, prev.CreateRev, prev.Version+1
		s.unlink(prev)
		s.supersede(r, prev)
	} else if grave, ok := s.graves.Delete(r); ok {
		r.Key = grave.Key
		s.supersede(r, grave)
	}
	s.link(r)
	fx.events = append(fx.events, &Event{Rev: s.rev, Key: r.Key, Rec: r, Prev: prev})
}

// link adds a record's index rows, its reference to a blob and its lease; the row of the key itself is there.
func (s *state) link(r *Record) {
	r.index = s.indexOf(r)
	for i, k := range r.index {
		if counted(k) {
			r.index[i] = s.count(k, r, 1)
		} else {
			s.index.ReplaceOrInsert(indexItem{key: k, rec: r})
		}
	}
	if r.ref {
		s.blobs[string(r.Value)].refs++
	}
	if r.Lease != 0 {
		s.attached.ReplaceOrInsert(attachment{r.Lease, r.Key})
	}
}

// unlink takes a record's index rows, reference and lease away; the row of the key itself stays.
func (s *state) unlink(r *Record) {
	for _, k := range r.index {
		if counted(k) {
			s.count(k, nil, -1)
		} else {
			s.index.Delete(indexItem{key: k})
		}
	}
	r.index = nil
	if r.ref {
		s.blobs[string(r.Value)].refs--
	}
	if r.Lease != 0 {
		s.attached.Delete(attachment{r.Lease, r.Key})
	}
}

func (s *state) delete(key string, fx *effects) {
	prev, had := s.keys.Delete(&Record{Key: key})
	if !had {
		return
	}
	s.unlink(prev)
	grave := &Record{Key: prev.Key, ModRev: s.rev, tomb: true, sub: s.sub}
	s.supersede(grave, prev)
	s.graves.ReplaceOrInsert(grave)
	s.touches.drop(key)
	s.places.drop(key)
	fx.events = append(fx.events, &Event{Rev: s.rev, Key: grave.Key, Rec: grave, Prev: prev, Deleted: true})
}

// remember keeps the outcome of an entry, and forgets the oldest beyond the bound.
func (s *state) remember(o origin, out Outcome) {
	if _, ok := s.outcomes[o]; !ok {
		s.order = append(s.order, o)
	}
	s.outcomes[o] = out
	if len(s.order) > maxOutcomes {
		delete(s.outcomes, s.order[0])
		s.order = s.order[1:]
	}
}

// remembers tells whether the outcome of an entry that was performed and ended at the revision last, or later, is still kept: what was
// forgotten ended before the oldest that is kept began. It may say no of one more than it must.
func (s *state) remembers(last uint64) bool {
	return len(s.order) < maxOutcomes || last > s.outcomes[s.order[0]].First
}

// view is a frozen copy of the tables, made in constant time.
func (s *state) view() *View {
	return &View{rev: s.rev, stamp: s.stamp, tables: s.tables.clone(), floor: s.floor, touches: s.touches, places: s.places, indexOf: s.indexOf}
}
