package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"time"
)

// Touched is a key with the time at which somebody gave a sign of it.
type Touched struct {
	Key string
	At  time.Time
}

// touches are the newest times of keys. They are state as all else is, but no version of a key: they take no revision and make no event,
// and all views show the newest. They are for what is only ever asked for its newest value, and changes all the time: 5,000 nodes
// that renew their leases each 10 s would else be most of the history.
type touches struct {
	mu sync.RWMutex
	m  map[string]int64
}

func newTouches() *touches { return &touches{m: map[string]int64{}} }

func (t *touches) clone() *touches {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return &touches{m: maps.Clone(t.m)}
}

func (t *touches) drop(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, key)
}

// Touched is when a key was last touched. It is the newest time that this member has applied, whatever the view's revision.
func (v *View) Touched(key string) (time.Time, bool) {
	v.touches.mu.RLock()
	defer v.touches.mu.RUnlock()
	at, ok := v.touches.m[key]
	return time.Unix(0, at), ok
}

// An opTouch's value: for each key uvarint len, key | time i64.
func touchOp(list []Touched) Op {
	var b []byte
	for _, t := range list {
		b = appendBytes(b, []byte(t.Key))
		b = binary.BigEndian.AppendUint64(b, uint64(t.At.UnixNano()))
	}
	return Op{Kind: opTouch, Value: b}
}

// eachTouch reads an opTouch's value.
func eachTouch(b []byte, fn func(key []byte, at int64)) error {
	for len(b) > 0 {
		key, rest, ok := cutBytes(b)
		if !ok || len(rest) < 8 {
			return errors.New("a list of touched keys is cut")
		}
		fn(key, int64(binary.BigEndian.Uint64(rest)))
		b = rest[8:]
	}
	return nil
}

// touch notes the times of keys that exist, where they are newer.
func (s *state) touch(op Op) {
	s.touches.mu.Lock()
	defer s.touches.mu.Unlock()
	_ = eachTouch(op.Value, func(key []byte, at int64) { // check has read it
		if at > s.touches.m[string(key)] {
			if r, ok := s.keys.Get(&Record{Key: string(key)}); ok {
				s.touches.m[r.Key] = at
			}
		}
	})
}

// touchSlice is how many keys one entry touches.
const touchSlice = 2000

// Touch notes that keys were given a sign of. Keys that do not exist are passed over, and a key's time goes with the key. Only the leader
// can; it blocks until all members of a majority have it. Errors are Propose's.
func (s *Store) Touch(ctx context.Context, list []Touched) error {
	for len(list) > 0 {
		n := min(len(list), touchSlice)
		p, err := s.Start(ctx, Entry{Ops: []Op{touchOp(list[:n])}})
		if err == nil {
			_, err = p.Wait(ctx)
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}
