package raftstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A staged blob that nothing came to refer to is forgotten after collectAfter, looked for every collectEvery.
const (
	collectAfter = time.Hour
	collectEvery = 10 * time.Minute
)

// stageState lets one stager at a time write, so that pieces of one blob stay together: one of those who call StageBlob, and beside it one of those
// whose entry is too large, for all writes wait for that.
type stageState struct{ blobs, entries sync.Mutex }

// StageBlob brings a blob to all members, in entries of at most MaxEntry each between which other entries pass. It returns the blob's
// digest when a majority has all of it. Nothing shows the blob until an entry refers to it (PutRef); if none does for an hour,
// it is forgotten. Only the leader can stage. The same bytes may be staged again. ErrNoSpace if this member's disk has too little room for it.
func (s *Store) StageBlob(ctx context.Context, body []byte) (string, error) {
	return s.stageUnder(ctx, &s.stage.blobs, body)
}

func (s *Store) stageUnder(ctx context.Context, mu *sync.Mutex, body []byte) (string, error) {
	digest := Digest(body)
	if len(body) == 0 || len(body) > maxBlob {
		return "", fmt.Errorf("stage blob %s of %d bytes: %w: 1 to %d are allowed", digest, len(body), ErrTooLarge, maxBlob)
	}
	mu.Lock()
	defer mu.Unlock()
	if err := s.roomFor(2 * uint64(len(body))); err != nil { // in the log, and as a file
		return "", fmt.Errorf("stage blob %s of %d bytes: %w", digest, len(body), err)
	}
	if err := s.stageAll(ctx, digest, body); err != nil {
		return "", fmt.Errorf("stage blob %s: %w", digest, err)
	}
	return digest, nil
}

// stageDepth is how many pieces are under way at once: those that wait while one is written share the next fsync.
const stageDepth = 8

func (s *Store) stageAll(ctx context.Context, digest string, body []byte) error {
	var flying []*Pending
	land := func() error {
		_, err := flying[0].Wait(ctx)
		flying = flying[1:]
		return err
	}
	offset := 0
	for piece := range slices.Chunk(body, chunkSize) {
		op := Op{Kind: opChunk, Key: digest, Value: encodeChunk(len(body), offset, piece)}
		p, err := s.startEntry(Entry{Ops: []Op{op}}, nil)
		if err != nil {
			return err
		}
		offset += len(piece)
		flying = append(flying, p)
		if len(flying) == stageDepth {
			if err := land(); err != nil {
				return err
			}
		}
	}
	for len(flying) > 0 {
		if err := land(); err != nil {
			return err
		}
	}
	if !s.fsm.hasBlob(digest) {
		return fmt.Errorf("%w: its pieces did not all arrive; stage it again", ErrRefused)
	}
	return nil
}

func (f *fsm) hasBlob(digest string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.st.blobs[digest]
	return b != nil && b.done
}

// collect has the leader forget staged blobs that nothing refers to. How long none has is each member's own observation, by its monotonic
// clock: a clock that was set ahead must not take away what is being pushed.
func (s *Store) collect() {
	idle := map[string]idleBlob{}
	s.every(collectEvery, func(now time.Time) {
		idle = watchIdle(idle, s.fsm.idleBlobs(), now)
		if s.Leader().Self {
			s.collectOnce(idle, now)
		}
	})
}

// idleBlob is a blob that nothing refers to, as it was first seen: staged changes when it is written again.
type idleBlob struct {
	staged int64
	seen   time.Time
}

func watchIdle(was map[string]idleBlob, now map[string]int64, at time.Time) map[string]idleBlob {
	out := make(map[string]idleBlob, len(now))
	for digest, staged := range now {
		out[digest] = idleBlob{staged, at}
		if b, ok := was[digest]; ok && b.staged == staged {
			out[digest] = b
		}
	}
	return out
}

func (s *Store) collectOnce(idle map[string]idleBlob, now time.Time) {
	var ops []Op
	for _, digest := range slices.Sorted(maps.Keys(idle)) {
		if now.Sub(idle[digest].seen) >= collectAfter {
			ops = append(ops, Op{Kind: opDrop, Key: digest})
		}
	}
	if len(ops) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), enqueueTimeout)
	defer cancel()
	if _, err := s.proposeOwn(ctx, ops...); err != nil {
		s.cfg.Logger.Warn("staged blobs could not be forgotten; the next round tries again", "blobs", len(ops), "error", err)
	}
}

// idleBlobs are the blobs, whole or not, that nothing refers to, and when they were last written.
func (f *fsm) idleBlobs() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]int64{}
	for digest, b := range f.st.blobs {
		if b.refs == 0 {
			out[digest] = b.staged
		}
	}
	return out
}

// HasBlob tells whether this member has a complete blob.
func (s *Store) HasBlob(digest string) bool { return s.fsm.hasBlob(digest) }
