package raftstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/btree"
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
	floor uint64
	keys  *btree.BTreeG[*Record]
	index *btree.BTreeG[indexItem]
	// indexOf is the injected index function.
	indexOf func(*Record) []string
	packer  *packer

	blobs    map[string]*blobInfo
	outcomes map[origin]Outcome
	order    []origin // of outcomes, oldest first
}

func newState(indexOf func(*Record) []string) *state {
	return &state{keys: newKeys(), index: newIndex(), indexOf: indexOf, packer: newPacker(), blobs: map[string]*blobInfo{}, outcomes: map[origin]Outcome{}}
}

// effects are what an entry did besides changing the state: events for watches, blobs to write and to remove.
type effects struct {
	events  []Event
	store   map[string][]byte
	remove  []string
	compact uint64
}

// apply performs an entry wholly or refuses it wholly. Blobs are read through load, which must give the same on every member.
func (s *state) apply(e *Entry, load func(digest string) ([]byte, error)) (Outcome, effects, error) {
	var fx effects
	ops, err := s.expand(e.Ops, load, &fx)
	if err != nil {
		return Outcome{}, fx, err
	}
	out := s.check(e, ops)
	if out.Refused {
		fx = effects{}
	} else {
		s.stamp = max(s.stamp, e.Time)
		takeDecoded(ops, e.own)
		s.perform(ops, &fx)
		out.Last = s.rev
	}
	s.remember(origin{e.node, e.Nonce}, out)
	return out, fx, nil
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
// expanded stays, and check refuses it. Values are copied where they would keep a whole packed list alive.
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
		for k := range inner {
			inner[k].Value = bytes.Clone(inner[k].Value)
		}
		// An entry brings one list at most; more stay as they are and are refused.
		return append(append(append([]Op(nil), ops[:i]...), inner...), ops[i+1:]...), nil
	}
	return ops, nil
}

// check decides whether the entry may be performed.
func (s *state) check(e *Entry, ops []Op) Outcome {
	refuse := func(format string, args ...any) Outcome {
		return Outcome{First: s.rev, Last: s.rev, Refused: true, Reason: fmt.Sprintf(format, args...)}
	}
	writes := false
	for _, op := range ops {
		switch op.Kind {
		case Put, Delete:
			writes = true
		case PutRef:
			writes = true
			if b := s.blobs[string(op.Value)]; b == nil || !b.complete() {
				return refuse("key %s names the blob %s, which is not complete", op.Key, op.Value)
			}
		case opPacked:
			return refuse("the packed operations cannot be read")
		case opSwitch:
			return refuse("the staged blob %s is not there or not a list of operations", op.Key)
		case opChunk:
			if _, err := decodeChunk(op.Value); err != nil {
				return refuse("blob %s: %v", op.Key, err)
			}
		case opCompact:
			if len(op.Value) != 8 {
				return refuse("a compaction has %d bytes for its revision", len(op.Value))
			}
		}
	}
	if writes && e.Base != s.rev {
		return refuse("it is based on revision %d, the store is at %d", e.Base, s.rev)
	}
	first := s.rev
	if writes {
		first++
	}
	return Outcome{First: first}
}

func (s *state) perform(ops []Op, fx *effects) {
	for _, op := range ops {
		switch op.Kind {
		case Put, PutRef:
			s.rev++
			s.put(op, fx)
		case Delete:
			s.rev++
			s.delete(op.Key, fx)
		case opChunk:
			s.chunk(op, fx)
		case opDrop:
			s.drop(op.Key, fx)
		case opCompact:
			rev := min(binary.BigEndian.Uint64(op.Value), s.rev)
			s.floor = max(s.floor, rev)
			fx.compact = s.floor
		}
	}
	fx.remove = slices.DeleteFunc(fx.remove, func(digest string) bool { return s.blobs[digest] != nil && s.blobs[digest].refs > 0 })
	for _, digest := range fx.remove {
		delete(s.blobs, digest)
	}
}

func (s *state) put(op Op, fx *effects) {
	r := &Record{Key: op.Key, Value: op.Value, Rev: s.rev, Created: s.rev, Version: 1, ref: op.Kind == PutRef}
	r.setDecoded(op.Decoded)
	prev, had := s.keys.Get(r)
	if had {
		r.Created, r.Version = prev.Created, prev.Version+1
		s.unlink(prev)
	}
	s.insert(r)
	fx.events = append(fx.events, Event{Rev: s.rev, Key: op.Key, Rec: r, Prev: prev})
}

// insert adds a record with its index rows and its reference to a blob.
func (s *state) insert(r *Record) {
	r.index = s.indexOf(r)
	for _, k := range r.index {
		s.index.ReplaceOrInsert(indexItem{key: k, rec: r})
	}
	if r.ref {
		s.blobs[string(r.Value)].refs++
	}
	s.keys.ReplaceOrInsert(r)
}

// unlink takes a record's index rows and reference away; the row of the key itself stays.
func (s *state) unlink(r *Record) {
	for _, k := range r.index {
		s.index.Delete(indexItem{key: k})
	}
	if r.ref {
		s.blobs[string(r.Value)].refs--
	}
}

func (s *state) delete(key string, fx *effects) {
	prev, had := s.keys.Delete(&Record{Key: key})
	if !had {
		return
	}
	s.unlink(prev)
	tomb := &Record{Key: key, Rev: s.rev, Created: prev.Created, Version: prev.Version + 1}
	fx.events = append(fx.events, Event{Rev: s.rev, Key: key, Rec: tomb, Prev: prev, Deleted: true})
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

// view is a frozen copy of the keys and their index, made in constant time.
func (s *state) view() *View {
	return &View{rev: s.rev, stamp: s.stamp, keys: s.keys.Clone(), index: s.index.Clone()}
}
