package raftstore

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// syncing calls back when blobs are synced.
type syncing struct {
	Blobs
	then func()
}

func (s *syncing) Sync(digests []string) error {
	if s.then != nil {
		s.then()
	}
	return s.Blobs.Sync(digests)
}

// A snapshot of the member's own that is finished while another is being taken over must not sweep away the blobs which that one brought.
func TestSweepSparesWhatIsBeingRestored(t *testing.T) {
	one := newMachine(byFirst)
	body := []byte("a blob that only the leader has")
	digest := Digest(body)
	for i, ops := range [][]Op{{{Kind: opChunk, Key: digest, Value: encodeChunk(len(body), 0, body)}}, {{Kind: PutRef, Key: "/b", Value: []byte(digest)}}} {
		applyRaw(t, one, i+1, (&Entry{Base: one.st.rev, Nonce: uint64(i + 1), node: 1, Ops: ops}).encode())
	}
	snap, err := one.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var sent sink
	if err := snap.Persist(&sent); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	two := newMachine(byFirst)
	own, err := two.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Persist(&sink{}); err != nil {
		t.Fatal(err)
	}
	two.blobs = &syncing{two.blobs, own.Release}
	two.fetch = one.fetchOwn
	if err := two.Restore(readCloser{bytes.NewReader(sent.Bytes())}); err != nil {
		t.Fatal(err)
	}
	if !two.blobs.Has(digest, uint64(len(body))) {
		t.Error("the blob that the new state names was swept away")
	}
}

// Blobs that were brought for a snapshot which is not restored yet stay, whatever else is finished meanwhile.
func TestSweepSparesWhatWasBrought(t *testing.T) {
	f := newMachine(byFirst)
	body := []byte("a blob that only the leader has")
	digest := Digest(body)
	f.fetch = func(string, *raft.SnapshotMeta) ([]byte, error) { return body, nil }
	own, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Persist(&sink{}); err != nil {
		t.Fatal(err)
	}
	f.blobs = &syncing{f.blobs, own.Release}
	if err := f.bring(map[string]uint64{digest: uint64(len(body))}, &raft.SnapshotMeta{}); err != nil {
		t.Fatal(err)
	}
	if !f.blobs.Has(digest, uint64(len(body))) {
		t.Error("the blob that was brought was swept away")
	}
}

// What a crash left half written is gone after the next start.
func TestOpenSweepsHalfFiles(t *testing.T) {
	dir := t.TempDir()
	if err := openOne(t, dir, nil, nil).Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{blobsName + "/" + strings.Repeat("a", 64) + ".tmp", snapsName + "/x" + snapSuffix + ".tmp", identityName + ".tmp", ringName + ".tmp", markName + ".tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openOne(t, dir, nil, nil)
	for _, name := range listFiles(t, dir) {
		if strings.HasSuffix(name, ".tmp") && !strings.Contains(name, "spare") {
			t.Errorf("%s is still there", name)
		}
	}
}

// A blob that is encrypted anew takes the place of a durable file, and the key of that one is forgotten: it is durable first.
func TestRotatedBlobsAreDurable(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	fsys := disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(path, "/"+blobsName) {
			seen = append(seen, string(op))
		}
		return nil
	}}
	s := openOne(t, t.TempDir(), nil, func(c *Config) { c.FS, c.Key = fsys, seal.File(filepath.Join(t.TempDir(), "outer.key")) })
	digest, err := s.StageBlob(t.Context(), []byte(noise(1, 1000)))
	if err != nil {
		t.Fatal(err)
	}
	propose(t, s, Op{Kind: PutRef, Key: "/b", Value: []byte(digest)})
	mu.Lock()
	seen = nil
	mu.Unlock()
	if err := s.RotateKey(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	sync, rename, dir := slices.Index(seen, string(disk.OpDatasync)), slices.Index(seen, string(disk.OpRename)), slices.Index(seen, string(disk.OpSyncDir))
	if sync < 0 || rename < sync || dir < rename {
		t.Errorf("the steps were %v; want a datasync, then the rename, then that of the folder", seen)
	}
}
