package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// After a failed fsync nobody knows what is on the disk, and the kernel says it once only: the member stops, whichever file it was, and
// does not try again and trust.
func TestFailedSyncStopsTheMember(t *testing.T) {
	for name, at := range map[string]struct {
		op   disk.Op
		path string
	}{
		"a blob": {disk.OpDatasync, "/" + blobsName + "/"}, "the blobs' folder": {disk.OpSyncDir, "/" + blobsName},
		"a snapshot": {disk.OpDatasync, "/" + snapsName + "/"}, "the snapshots' folder": {disk.OpSyncDir, "/" + snapsName},
		"the log's next file": {disk.OpDatasync, "spare"},
	} {
		t.Run(name, func(t *testing.T) {
			var armed, met atomic.Bool
			fsys := disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
				if armed.Load() && op == at.op && strings.Contains(path, at.path) && met.CompareAndSwap(false, true) {
					return syscall.EIO
				}
				return nil
			}}
			s := openOne(t, t.TempDir(), nil, func(c *Config) { c.FS = fsys })
			digest, err := s.StageBlob(t.Context(), []byte(noise(1, 100<<10)))
			if err != nil {
				t.Fatal(err)
			}
			propose(t, s, Op{Kind: PutRef, Key: "/blob", Value: []byte(digest)})
			armed.Store(true)
			_ = s.Snapshot()
			for i := 0; i < 40 && !met.Load(); i++ {
				_, _ = s.Propose(t.Context(), Entry{Base: s.View().Rev(), Ops: []Op{put("/k", noise(uint64(i), 100<<10))}})
			}
			if !met.Load() {
				t.Fatal("nothing was synced there: the test proves nothing")
			}
			for range 3 {
				_, _ = s.Propose(t.Context(), Entry{Base: s.View().Rev(), Ops: []Op{put("/k", "v")}})
				_ = s.Snapshot()
			}
			select {
			case <-s.Failed():
			case <-time.After(20 * time.Second): // the next file is made beside the others' work
				t.Error("the member goes on")
			}
		})
	}
}

// raft keeps as many entries behind a snapshot as before, also where the snapshot that was to shorten the log failed.
func TestLogLimitLeavesTheTrailAsItWas(t *testing.T) {
	fsys := newFullDisk("/" + snapsName + "/")
	s := openOne(t, t.TempDir(), nil, func(c *Config) { c.FS, c.LogBytes, c.TrailingEntries = fsys, 1, 4000 })
	propose(t, s, put("/k", noise(1, 1000)), put("/l", "v"))
	fsys.full.Store(true)
	if err := s.limitOnce(); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Fatalf("the snapshot: %v; the test proves nothing", err)
	}
	if now := s.raft.ReloadableConfig().TrailingLogs; now != 4000 {
		t.Errorf("raft keeps %d entries from now on, not 4000", now)
	}
}
