package raftstore

import "github.com/hashicorp/raft"

// Intercept puts f before every write of the log and of the vote: a test makes a disk slow by waiting in it, or full by returning an
// error, which stops the member as the disk's own error does. A vote that cannot be kept ends the process: raft panics. Call it before
// Open.
func (s *Storage) Intercept(f func(vote bool) error) {
	s.log = interceptedLog{s.log, f}
	s.stable = interceptedVote{s.stable, f}
}

type interceptedLog struct {
	raft.LogStore
	before func(vote bool) error
}

// StoreLog implements raft.LogStore.
func (l interceptedLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (l interceptedLog) StoreLogs(logs []*raft.Log) error {
	if err := l.before(false); err != nil {
		return err
	}
	return l.LogStore.StoreLogs(logs)
}

type interceptedVote struct {
	raft.StableStore
	before func(vote bool) error
}

// Set implements raft.StableStore.
func (v interceptedVote) Set(key, val []byte) error {
	if err := v.before(true); err != nil {
		return err
	}
	return v.StableStore.Set(key, val)
}

// SetUint64 implements raft.StableStore.
func (v interceptedVote) SetUint64(key []byte, val uint64) error {
	if err := v.before(true); err != nil {
		return err
	}
	return v.StableStore.SetUint64(key, val)
}
