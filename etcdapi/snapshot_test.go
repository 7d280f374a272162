package etcdapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/internal/testcluster/member"
	"reconcile/raftstore/seal"
)

// TestSnapshotsComeToNoDisk: while a snapshot of an encrypted store is sent, no file holds what is in it, neither in the store's folder nor in that for
// temporary files. One is made at a time.
func TestSnapshotsComeToNoDisk(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	b := newBare(t, 1, func(c *member.Config) { c.Store.Key = seal.File(filepath.Join(c.Store.Dir, "..", "outer.key")) })
	c := b.client()
	const secret = "CANARY-of-a-secret"
	for _, k := range []string{"a", "b", "c"} {
		must(c.Put(t.Context(), k, secret+strings.Repeat("x", 1<<20)))(t)
	}
	conn := narrow(t, b)
	first := must(pb.NewMaintenanceClient(conn).Snapshot(t.Context(), &pb.SnapshotRequest{}))(t)
	must(first.Recv())(t)
	for _, dir := range []string{temp, b.dir} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			if bytes.Contains(body, []byte(secret)) {
				t.Errorf("%s holds the secret while a snapshot is sent", path)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	second := must(pb.NewMaintenanceClient(conn).Snapshot(short, &pb.SnapshotRequest{}))(t)
	if r, err := second.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a second snapshot beside the first: %d bytes, %v", len(r.GetBlob()), err)
	}
	for err := error(nil); !errors.Is(err, io.EOF); {
		if _, err = first.Recv(); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	third := must(pb.NewMaintenanceClient(conn).Snapshot(t.Context(), &pb.SnapshotRequest{}))(t)
	must(third.Recv())(t)
}
