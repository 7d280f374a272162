package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
)

// killer is a file layer that stops working at a step, as if the process were killed there: nothing is written from then on.
type killer struct {
	disk.FS
	mu    sync.Mutex
	armed bool
	// sparing lets the identity and the vote be written always: raft ends the process with a panic where it cannot note its term, also one that it hears of
	// after the kill.
	sparing bool
	left    int
	at      string // where it stopped
}

var errKilled = errors.New("killed here by the test")

func newKiller() *killer {
	k := &killer{}
	k.FS = disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if !k.armed || op == disk.OpRead || (k.sparing && !k.counted(path)) {
			return nil
		}
		if k.left--; k.left >= 0 {
			return nil
		}
		if k.at == "" {
			k.at = fmt.Sprint(op, " ", path[strings.LastIndex(path, "/")+1:])
		}
		return errKilled
	}}
	return k
}

// counted tells whether a path is of what a snapshot changes.
func (k *killer) counted(path string) bool {
	for _, part := range []string{snapsName, blobsName, "/" + walName, markName} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}

// arm lets the next steps pass, and none after them.
func (k *killer) arm(steps int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed, k.left = true, steps
}

func (k *killer) where() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at
}

// F13 of the fault list: a member that is killed at any step of taking a snapshot has everything after its restart.
func TestKilledAtEachStepOfASnapshot(t *testing.T) {
	for step := 0; ; step++ {
		dir, k := t.TempDir(), newKiller()
		s := openOne(t, dir, nil, func(c *Config) { c.FS, c.TrailingEntries = k, 2 })
		digest, err := s.StageBlob(t.Context(), []byte(noise(1, 300<<10)))
		if err != nil {
			t.Fatal(err)
		}
		propose(t, s, Op{Kind: PutRef, Key: "/blob", Value: []byte(digest)})
		for round := range 3 { // the first two snapshots are whole; the third replaces an older one
			for i := range 10 {
				propose(t, s, put(fmt.Sprintf("/k/%d/%d", round, i), noise(uint64(i), 40<<10)))
			}
			if round < 2 {
				if err := s.Snapshot(); err != nil {
					t.Fatal(err)
				}
			}
		}
		was := s.View()
		k.arm(step)
		err = s.Snapshot()
		_ = s.Close() // fails too where it was killed
		again := openOne(t, dir, nil, func(c *Config) { c.TrailingEntries = 2 })
		if diff := Equal(was, again.View()); diff != nil {
			t.Errorf("killed at step %d, %s: %v", step, k.where(), diff)
		}
		if body, err := again.Blob(digest); err != nil || string(body) != noise(1, 300<<10) {
			t.Errorf("killed at step %d, %s: the blob: %d bytes, %v", step, k.where(), len(body), err)
		}
		if err := again.Snapshot(); err != nil {
			t.Errorf("killed at step %d, %s: the next snapshot: %v", step, k.where(), err)
		}
		again.Close()
		if err == nil && k.where() == "" {
			t.Logf("%d steps", step)
			if step < 8 {
				t.Errorf("only %d steps: the test proves little", step)
			}
			return
		}
	}
}

// The same for a member that takes over a snapshot of the leader's: it comes back, takes it over, and has what the leader has.
func TestKilledAtEachStepOfInstallingASnapshot(t *testing.T) {
	stride := 3
	if testing.Short() {
		stride = 9
	}
	_, t1 := raft.NewInmemTransport("one")
	lead, err := Open(Config{Dir: t.TempDir(), ServerID: "one", ClusterID: "c", Bootstrap: true, Transport: t1, Heartbeat: 100 * time.Millisecond, TrailingEntries: 2, SnapshotEntries: 100000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lead.Close() })
	waitLeader(t, lead)
	digest, err := lead.StageBlob(t.Context(), []byte(noise(1, 300<<10)))
	if err != nil {
		t.Fatal(err)
	}
	propose(t, lead, Op{Kind: PutRef, Key: "/blob", Value: []byte(digest)})
	for i := range 60 { // over the end of the log's first file, so that its beginning is gone after the snapshot
		propose(t, lead, put(fmt.Sprintf("/k/%d", i), noise(uint64(i), 60<<10)))
	}
	if err := lead.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if first, err := lead.storage.log.FirstIndex(); err != nil || first < 10 {
		t.Fatalf("the log begins at %d, %v: the test proves nothing", first, err)
	}
	join := func(id, dir string, fsys disk.FS) (*Store, error) {
		_, transport := raft.NewInmemTransport(raft.ServerAddress(id))
		transport.Connect(t1.LocalAddr(), t1)
		t1.Connect(transport.LocalAddr(), transport)
		return Open(Config{Dir: dir, FS: fsys, ServerID: id, ClusterID: "c", Join: true, Transport: transport, Heartbeat: 100 * time.Millisecond, TrailingEntries: 2,
			Fetch: func(_ context.Context, _ Server, digest string) ([]byte, error) { return lead.ServeBlob(digest) }})
	}
	for step := 0; ; step += stride {
		id, dir, k := fmt.Sprintf("member-%d", step), t.TempDir(), newKiller()
		k.sparing = true
		s, err := join(id, dir, k)
		if err != nil {
			t.Fatal(err)
		}
		k.arm(step)
		if err := lead.AddNonvoter(t.Context(), id, id); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		deadline := time.NewTimer(20 * time.Second)
		for done := false; !done; {
			select {
			case <-time.After(5 * time.Millisecond):
				done = k.where() != "" || s.View().Rev() >= lead.View().Rev()
			case <-deadline.C:
				t.Fatalf("step %d: neither killed nor caught up", step)
			}
		}
		killed := k.where()
		_ = s.Close() // fails too where it was killed
		if s, err = join(id, dir, disk.OS{}); err != nil {
			t.Fatalf("killed at step %d, %s: %v", step, killed, err)
		}
		if err := s.WaitRev(ctx, lead.View().Rev()); err != nil {
			t.Fatalf("killed at step %d, %s: %v", step, killed, err)
		}
		if err := Equal(lead.View(), s.View()); err != nil {
			t.Errorf("killed at step %d, %s: %v", step, killed, err)
		}
		if body, err := s.Blob(digest); err != nil || string(body) != noise(1, 300<<10) {
			t.Errorf("killed at step %d, %s: the blob: %d bytes, %v", step, killed, len(body), err)
		}
		cancel()
		if err := lead.RemoveServer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if killed == "" {
			t.Logf("%d steps", step)
			if step < 10 {
				t.Errorf("only %d steps: the test proves little", step)
			}
			return
		}
	}
}

// The log keeps to its bound of bytes, whatever the entries' size.
func TestLogIsBoundedByBytes(t *testing.T) {
	const bound = 24 << 20
	s := openOne(t, t.TempDir(), nil, func(c *Config) { c.LogBytes, c.SnapshotEntries = bound, 1<<40 })
	for i := range 300 {
		propose(t, s, put("/k", noise(uint64(i), 400<<10)))
		if i%40 == 39 {
			if err := s.limitOnce(); err != nil {
				t.Fatal(err)
			}
			if now := s.Disk().Log; now > bound+16<<20 { // a whole file more
				t.Fatalf("the log takes %d bytes after %d entries", now, i)
			}
		}
	}
	// The store looks at its log by itself too, and may be in the middle of it.
	for deadline := time.Now().Add(20 * time.Second); s.raft.ReloadableConfig().TrailingLogs != s.cfg.TrailingEntries; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("raft keeps %d entries from now on, not %d", s.raft.ReloadableConfig().TrailingLogs, s.cfg.TrailingEntries)
		}
	}
	if u := s.Disk(); u.Snapshots == 0 || u.Log == 0 {
		t.Errorf("usage %+v", u)
	}
}
