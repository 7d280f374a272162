package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"reconcile/raftstore/disk"
)

// fullDisk has no room for files whose path has one of the parts, while full is set, and says that little is free while tight is.
type fullDisk struct {
	disk.FS
	full, tight atomic.Bool
}

func newFullDisk(parts ...string) *fullDisk {
	d := &fullDisk{}
	d.FS = disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
		if !d.full.Load() || (op != disk.OpWrite && op != disk.OpAllocate && op != disk.OpCreate) {
			return nil
		}
		for _, part := range parts {
			if strings.Contains(path, part) {
				return syscall.ENOSPC
			}
		}
		return nil
	}}
	return d
}

// Space implements disk.FS.
func (d *fullDisk) Space(dir string) (total, free uint64, err error) {
	if total, free, err = d.FS.Space(dir); d.tight.Load() {
		return 100 << 30, 65 << 20, err
	}
	return total, free, err
}

// A blob that is complete when the disk is full stops no member: it is served, the log keeps its pieces, and the file comes when there is room.
func TestFullDiskKeepsBlobsWaiting(t *testing.T) {
	dir, fsys := t.TempDir(), newFullDisk("/"+blobsName+"/")
	change := func(c *Config) { c.FS, c.TrailingEntries = fsys, 2 }
	s := openOne(t, dir, nil, change)
	fsys.full.Store(true)
	body := noise(1, 400<<10)
	digest, err := s.StageBlob(t.Context(), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	propose(t, s, Op{Kind: PutRef, Key: "/blob", Value: []byte(digest)})
	served := func(s *Store) {
		t.Helper()
		if got, err := s.Blob(digest); err != nil || string(got) != body {
			t.Errorf("the blob: %d bytes, %v", len(got), err)
		}
	}
	served(s)
	if err := s.Snapshot(); err == nil {
		t.Error("a snapshot was finished that names a blob without a file")
	}
	if err := s.Space(); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the space is said to be: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openOne(t, dir, nil, change) // reads the pieces from the log again, and finds no room again
	served(s)
	fsys.full.Store(false)
	if err := errors.Join(s.Snapshot(), s.Space(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openOne(t, dir, nil, change)
	served(s)
	if waiting := s.storage.blobs.(*blobFolder).waiting; len(waiting) != 0 {
		t.Errorf("%d blobs still wait", len(waiting))
	}
}

// The identity lags behind while the disk is full, and the member goes on: its log has room.
func TestFullDiskLetsTheIdentityLag(t *testing.T) {
	fsys := newFullDisk(identityName)
	s := openOne(t, t.TempDir(), nil, func(c *Config) { c.FS = fsys })
	fsys.full.Store(true)
	for i := range 2*identityStride + 10 {
		propose(t, s, put("/k", fmt.Sprint(i)))
	}
	lag := func() uint64 {
		id, _, err := s.storage.identity.load()
		if err != nil {
			t.Fatal(err)
		}
		return s.raft.LastIndex() - id.Index
	}
	if lag() < identityStride {
		t.Fatalf("the identity lags %d entries behind: the test proves nothing", lag())
	}
	fsys.full.Store(false)
	propose(t, s, put("/k", "last"))
	if lag() > identityStride {
		t.Errorf("with room again it still lags %d entries behind", lag())
	}
}

// What would eat up the reserve is refused before anything of it is written, with what is free and what to do.
func TestStagingLeavesTheReserve(t *testing.T) {
	fsys := newFullDisk()
	s := openOne(t, t.TempDir(), nil, func(c *Config) { c.FS = fsys })
	fsys.tight.Store(true)
	before := s.raft.LastIndex()
	_, err := s.StageBlob(context.Background(), []byte(noise(1, 2<<20)))
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "65 MiB free, and 68 MiB are needed") || !strings.Contains(err.Error(), s.cfg.Dir) {
		t.Errorf("the error is: %v", err)
	}
	if now := s.raft.LastIndex(); now != before {
		t.Errorf("%d entries were written", now-before)
	}
	if err := s.Space(); err != nil {
		t.Errorf("what is above the reserve is free: %v", err)
	}
	if _, err := s.StageBlob(context.Background(), []byte(noise(1, 100<<10))); err != nil {
		t.Errorf("a small one has room: %v", err)
	}
}
