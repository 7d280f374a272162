package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// fetchTimeout bounds one round of asking the other members for a blob, and fetchFor how long a member that lacks one goes on asking.
const (
	fetchTimeout = 2 * time.Minute
	fetchFor     = 20 * time.Second
	fetchPause   = 500 * time.Millisecond
)

// errNobody tells that there is nobody to fetch from.
var errNobody = errors.New("no other member can be asked for it")

// fetch gets a blob that a snapshot names from the other members, which are those that this snapshot names (nil: the newest finished one). raft waits
// for it, so it gives up after a while, and at once if each of them says that it has none: a member whose snapshot names a blob has it, so what named
// this one is gone, and the leader sends another snapshot.
func (s *Store) fetch(digest string, of *raft.SnapshotMeta) ([]byte, error) {
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
		body, err := s.fetchOnce(ctx, digest, of)
		if err == nil || errors.Is(err, errNobody) || errors.Is(err, ErrNoBlob) || time.Now().After(deadline) {
			return body, err
		}
		select {
		case <-time.After(fetchPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// fetchOnce asks each of the others once. The error is ErrNoBlob if all answered that they have none, and not if one did not answer.
func (s *Store) fetchOnce(ctx context.Context, digest string, of *raft.SnapshotMeta) ([]byte, error) {
	others, err := s.others(of)
	if err != nil {
		return nil, err
	}
	if s.cfg.Fetch == nil || len(others) == 0 {
		return nil, damaged(fmt.Errorf("it is missing in %s, and %w", s.storage.where, errNobody))
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var failed []error
	for _, m := range others {
		body, err := s.cfg.Fetch(ctx, m, digest)
		switch {
		case err == nil && Digest(body) == digest:
			return body, nil
		case err == nil:
			failed = append(failed, fmt.Errorf("the bytes that server %s sent have another digest", m.ID))
		case !errors.Is(err, ErrNoBlob):
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil, fmt.Errorf("fetch it from another member: none has it: %w", ErrNoBlob)
	}
	return nil, fmt.Errorf("fetch it from another member: %w", errors.Join(failed...))
}

// others are the other members, as a snapshot names them (nil: the newest finished one): at the start raft cannot be asked yet.
func (s *Store) others(of *raft.SnapshotMeta) ([]Server, error) {
	if of == nil {
		snaps, err := s.storage.snaps.List()
		if err != nil || len(snaps) == 0 {
			return nil, err
		}
		of = snaps[0]
	}
	var out []Server
	for _, m := range of.Configuration.Servers {
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
	found, fetchErr := s.fetchOnce(context.Background(), digest, nil)
	if fetchErr == nil {
		s.cfg.Logger.Warn("a blob was damaged on this disk and fetched from another server", "blob", digest, "error", err)
		return found, s.storage.blobs.Put(digest, found)
	}
	if errors.Is(err, ErrNoBlob) {
		err = damaged(fmt.Errorf("the file of blob %s in %s is missing", digest, s.storage.where))
	}
	return nil, errors.Join(err, fetchErr)
}
