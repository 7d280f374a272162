package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/hashicorp/raft"
)

// ballot is raft's stable state, term and vote, kept as one value with a checksum and a count of its writes. bbolt protects neither a
// value nor a key that is gone; the count, which the identity file repeats, tells that the newest transaction is missing.
type ballot struct {
	under raft.StableStore

	mu     sync.Mutex
	writes uint64
	values map[string][]byte
}

// ballotKey is where the whole is kept; before format 2 raft's keys stood alone.
const ballotKey = "reconcile.ballot"

// The names that raft uses.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVoteCand = "LastVoteCand"
)

// errNotFound is worded as raft expects it of a stable store.
var errNotFound = errors.New("not found")

type ballotBody struct {
	Writes uint64            `json:"writes"`
	Values map[string][]byte `json:"values"`
}

// openBallot reads the stable state; known is whether the identity file counts its writes, so that there must be one.
func openBallot(under raft.StableStore, known bool) (*ballot, error) {
	b := &ballot{under: under, values: map[string][]byte{}}
	var sealed []byte
	err := guard(func() (err error) { sealed, err = under.Get([]byte(ballotKey)); return err })
	switch {
	case err != nil && err.Error() != errNotFound.Error():
		return nil, fmt.Errorf("read the vote in %s: %w", stableName, damaged(err))
	case err == nil && len(sealed) > 0:
		return b, b.decode(sealed)
	case known:
		return nil, fmt.Errorf("read the vote in %s: %w", stableName, damaged(errMissing))
	}
	return b, guard(b.old)
}

func (b *ballot) decode(sealed []byte) error {
	n := len(sealed) - 4
	if n < 0 || binary.LittleEndian.Uint32(sealed[n:]) != crc32.Checksum(sealed[:n], castagnoli) {
		return fmt.Errorf("read the vote in %s: %w", stableName, damaged(errChecksum))
	}
	var body ballotBody
	if err := json.Unmarshal(sealed[:n], &body); err != nil {
		return fmt.Errorf("read the vote in %s: %w", stableName, damaged(err))
	}
	b.writes = body.Writes
	if body.Values != nil {
		b.values = body.Values
	}
	return nil
}

// old takes over what stands under raft's own keys.
func (b *ballot) old() error {
	for _, key := range []string{keyTerm, keyVoteTerm, keyVoteCand} {
		v, err := b.under.Get([]byte(key))
		if err == nil && len(v) > 0 {
			b.values[key] = bytes.Clone(v)
		}
	}
	return nil
}

// Set implements raft.StableStore.
func (b *ballot) Set(key, val []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := maps.Clone(b.values)
	next[string(key)] = bytes.Clone(val)
	body, err := json.Marshal(ballotBody{Writes: b.writes + 1, Values: next})
	if err != nil {
		return err
	}
	body = binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
	if err := b.under.Set([]byte(ballotKey), body); err != nil {
		return err
	}
	b.values, b.writes = next, b.writes+1
	return nil
}

// Get implements raft.StableStore.
func (b *ballot) Get(key []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.values[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return bytes.Clone(v), nil
}

// SetUint64 implements raft.StableStore.
func (b *ballot) SetUint64(key []byte, val uint64) error {
	return b.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 implements raft.StableStore.
func (b *ballot) GetUint64(key []byte) (uint64, error) {
	v, err := b.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("the value of %s has %d bytes", strconv.Quote(string(key)), len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func (b *ballot) count() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writes
}

// guard turns a panic of bbolt into an error: it panics where it meets a page that makes no sense, and its memory map faults where
// the file was cut.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(fmt.Errorf("%v", r))
		}
	}()
	return f()
}

// guardedLog is a log of bbolt's, whose panics are errors.
type guardedLog struct{ under raft.LogStore }

// FirstIndex implements raft.LogStore.
func (g guardedLog) FirstIndex() (index uint64, err error) {
	err = guard(func() (err error) { index, err = g.under.FirstIndex(); return err })
	return index, err
}

// LastIndex implements raft.LogStore.
func (g guardedLog) LastIndex() (index uint64, err error) {
	err = guard(func() (err error) { index, err = g.under.LastIndex(); return err })
	return index, err
}

// GetLog implements raft.LogStore.
func (g guardedLog) GetLog(index uint64, l *raft.Log) error {
	return guard(func() error { return g.under.GetLog(index, l) })
}

// StoreLog implements raft.LogStore.
func (g guardedLog) StoreLog(l *raft.Log) error {
	return guard(func() error { return g.under.StoreLog(l) })
}

// StoreLogs implements raft.LogStore.
func (g guardedLog) StoreLogs(logs []*raft.Log) error {
	return guard(func() error { return g.under.StoreLogs(logs) })
}

// DeleteRange implements raft.LogStore.
func (g guardedLog) DeleteRange(lo, hi uint64) error {
	return guard(func() error { return g.under.DeleteRange(lo, hi) })
}
