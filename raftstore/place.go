package raftstore

import (
	"encoding/binary"
	"maps"
	"sync"
)

// Place is where in the log an entry stands, and which revisions it took.
type Place struct {
	// Index and Term are raft's.
	Index, Term uint64
	// First and Last are the entry's block of revisions.
	First, Last uint64
}

// NotePlace is the operation that notes the place of its own entry beside a key that the entry writes, or that exists: nobody knows it before the
// entry is in the log. It takes no revision, goes with the key, and gives way to the next such note. View.Place tells it.
func NotePlace(key string) Op { return Op{Kind: opPlace, Key: key} }

// places are the noted ones. As touches they are no versions of the keys: all views show the newest.
type places struct {
	mu sync.RWMutex
	m  map[string]Place
}

func newPlaces() *places { return &places{m: map[string]Place{}} }

func (p *places) clone() *places {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return &places{m: maps.Clone(p.m)}
}

func (p *places) drop(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, key)
}

// Place is where the newest entry stands that noted its place beside the key.
func (v *View) Place(key string) (Place, bool) {
	v.places.mu.RLock()
	defer v.places.mu.RUnlock()
	p, ok := v.places.m[key]
	return p, ok
}

// notePlaces performs an entry's opPlace, when all else of it is done.
func (s *state) notePlaces(ops []Op, at position, out Outcome) {
	for _, op := range ops {
		if op.Kind != opPlace {
			continue
		}
		if r, ok := s.keys.Get(&Record{Key: op.Key}); ok {
			s.places.mu.Lock()
			s.places.m[r.Key] = Place{Index: at.index, Term: at.term, First: out.First, Last: out.Last}
			s.places.mu.Unlock()
		}
	}
}

// needsLevel is the least feature level that a member must have to perform operations.
func needsLevel(ops []Op) uint16 {
	for _, op := range ops {
		if op.Kind == opPlace {
			return FeatureLevel
		}
	}
	return FeatureLevel - 1
}

func appendPlace(b []byte, key string, p Place) []byte {
	b = appendBytes(b, []byte(key))
	for _, n := range []uint64{p.Index, p.Term, p.First, p.Last} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}
