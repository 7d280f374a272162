package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// fetchTimeout bounds one round of asking the other members for a blob, and fetchFor how long a member that lacks one goes on asking.
const (
	fetchTimeout = 2 * time.Minute
	fetchFor     = 20 * time.Second
	fetchPause   = 500 * time.Millisecond
)

// errNobody tells that there is nobody to fetch from.
var errNobody = errors.New("no other member can be asked for it")

// fetch gets a blob from the others. It gives up after a while: raft waits for it, and tries again with a newer snapshot, which may not name
// the blob any more.
func (s *Store) fetch(digest string) ([]byte, error) {
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	})
	defer watcher.Wait()
	defer cancel()
	deadline := time.Now().Add(fetchFor)
	for {
		body, err := s.fetchOnce(ctx, digest)
		if err == nil || errors.Is(err, errNobody) || time.Now().After(deadline) {
			return body, err
		}
		select {
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (s *Store) fetchOnce(ctx context.Context, digest string) ([]byte, error) {
	others, err := s.others()
	if err != nil {
		return nil, err
	}
	if s.cfg.Fetch == nil || len(others) == 0 {
		return nil, damaged(fmt.Errorf("it is missing in %s, and %w", s.storage.where, errNobody))
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	body, err := s.cfg.Fetch(ctx, others, digest)
	if err != nil {
		return nil, fmt.Errorf("fetch it from another member: %w", err)
	}
	if Digest(body) != digest {
		return nil, errors.New("fetch it from another member: the bytes that came have another digest")
	}
	return body, nil
}

// others are the other members, as the newest snapshot names them: at the start raft cannot be asked yet.
func (s *Store) others() ([]Server, error) {
	snaps, err := s.storage.snaps.List()
	if err != nil || len(snaps) == 0 {
		return nil, err
	}
	var out []Server
	for _, m := range snaps[0].Configuration.Servers {
		out = append(out, Server{ID: string(m.ID), Address: string(m.Address)})
	}
	return slices.DeleteFunc(out, func(m Server) bool { return m.ID == s.id.ServerID }), nil
}

// ServeBlob returns the bytes of a blob to another member that lacks it: any that this member's state or its newest snapshot names.
// ErrNoBlob if it has none.
func (s *Store) ServeBlob(digest string) ([]byte, error) { return s.storage.blobs.Get(digest) }

// Blob returns the bytes of a complete blob. They are the caller's. ErrNoBlob if this member has none. One that the disk has changed is
// fetched from another member; if none has it, the error is ErrDamaged.
func (s *Store) Blob(digest string) ([]byte, error) {
	if !s.fsm.hasBlob(digest) {
		return nil, fmt.Errorf("read blob: %w: %s", ErrNoBlob, digest)
	}
	body, err := s.storage.blobs.Get(digest)
	if err == nil || !s.fsm.hasBlob(digest) {
		return body, err
	}
	found, fetchErr := s.fetchOnce(context.Background(), digest)
	if fetchErr == nil {
		s.cfg.Logger.Warn("a blob was damaged on this disk and fetched from another server", "blob", digest, "error", err)
		return found, s.storage.blobs.Put(digest, found)
	}
	if errors.Is(err, ErrNoBlob) {
		err = damaged(fmt.Errorf("the file of blob %s in %s is missing", digest, s.storage.where))
	}
	return nil, errors.Join(err, fetchErr)
}
