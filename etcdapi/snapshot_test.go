package etcdapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
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

// TestSnapshotRestores: etcd's own tool makes an etcd from a snapshot of ours, which goes on at its revision, with its keys and leases.
func TestSnapshotRestores(t *testing.T) {
	t.Parallel()
	ctl, utl, server := tool(t, "etcdctl"), tool(t, "etcdutl"), tool(t, "etcd")
	for name, last := range map[string]func(*clientv3.Client) error{
		"a put last":      func(c *clientv3.Client) error { _, err := c.Put(t.Context(), "k", "last"); return err },
		"a deletion last": func(c *clientv3.Client) error { _, err := c.Delete(t.Context(), "gone"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBare(t, 1, nil)
			c := b.client()
			l := must(c.Grant(t.Context(), 6000))(t)
			must(c.Put(t.Context(), "k", "1", clientv3.WithLease(l.ID)))(t)
			must(c.Put(t.Context(), "k", "2", clientv3.WithLease(l.ID)))(t)
			must(c.Txn(t.Context()).Then(clientv3.OpPut("gone", "1"), clientv3.OpPut("other", "1")).Commit())(t)
			hide(t, b, "/git/secret")
			if err := last(c); err != nil {
				t.Fatal(err)
			}
			want := must(c.Get(t.Context(), "", clientv3.WithPrefix()))(t)
			dir := t.TempDir()
			snap, data := filepath.Join(dir, "snap.db"), filepath.Join(dir, "data")
			runTool(t, ctl, slices.Concat([]string{"--endpoints", b.peers[0].Etcd}, patient, []string{"snapshot", "save", snap})...)
			if out := runTool(t, utl, "snapshot", "status", snap, "-w", "fields"); !strings.Contains(out, fmt.Sprintf(`"Revision" : %d`, want.Header.Revision)) {
				t.Errorf("the snapshot's status is\n%s, the revision was %d", out, want.Header.Revision)
			}
			runTool(t, utl, "snapshot", "restore", snap, "--data-dir", data)
			etcd := startEtcd(t, server, data)
			have := must(etcd.Get(t.Context(), "", clientv3.WithPrefix()))(t)
			if have.Header.Revision != want.Header.Revision || fmt.Sprint(have.Kvs) != fmt.Sprint(want.Kvs) {
				t.Errorf("etcd has %v at revision %d, ours %v at %d", have.Kvs, have.Header.Revision, want.Kvs, want.Header.Revision)
			}
			if ttl := must(etcd.TimeToLive(t.Context(), l.ID))(t); ttl.GrantedTTL != 6000 {
				t.Errorf("etcd says of the lease %+v", ttl)
			}
			if r := must(etcd.Put(t.Context(), "new", "1"))(t); r.Header.Revision != want.Header.Revision+1 {
				t.Errorf("etcd goes on at revision %d behind %d", r.Header.Revision, want.Header.Revision)
			}
		})
	}
}

// runTool runs one of etcd's programs and returns what it prints.
func runTool(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// startEtcd starts etcd on a folder, on an address of its own, and returns its client.
func startEtcd(t *testing.T, program, data string) *clientv3.Client {
	t.Helper()
	ip := addressOf(clusters.Add(1), 0)
	client, peer := "http://"+ip+":7003", "http://"+ip+":7001"
	cmd := exec.Command(program, "--data-dir", data, "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--log-level", "error")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := must(clientv3.New(clientv3.Config{Endpoints: []string{client}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()}))(t)
	t.Cleanup(func() {
		c.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("etcd said: %s", said.String())
		}
	})
	eventually(t, "etcd answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Get(ctx, "k")
		return err == nil
	})
	return c
}
