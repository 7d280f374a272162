package raftstore

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
)

// A snapshot that came from another member and cannot be restored must not take the place of the one that can.
func TestDamagedSnapshotTakesNoPlace(t *testing.T) {
	f := newMachine(byFirst)
	for i := range 50 {
		applyRaw(t, f, i+1, (&Entry{Base: f.st.rev, Nonce: uint64(i + 1), node: 1, Ops: []Op{put(fmt.Sprintf("/k/%d", i), noise(uint64(i), 20<<10))}}).encode())
	}
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var whole sink
	if err := snap.Persist(&whole); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &durable{ids: &memoryIdentity{}}
	s := &snapFolder{fs: disk.OS{}, dir: dir, folder: "f", log: slog.New(slog.DiscardHandler), taken: d.snapshotted,
		bring: func(map[string]uint64, *raft.SnapshotMeta) error { return nil }}
	receive := func(index uint64, body []byte) error {
		k, err := s.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Write(body); err != nil {
			t.Fatal(err)
		}
		return k.Close()
	}
	if err := receive(10, whole.Bytes()); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole.Bytes())
	flipped[len(flipped)/2] ^= 4
	for name, body := range map[string][]byte{
		"a flipped bit": flipped, "cut": whole.Bytes()[:whole.Len()/2], "empty": nil, "without its end": whole.Bytes()[:whole.Len()-8],
		"of another kind": []byte("reconcile-snapshot-9\nxyz"),
	} {
		err := receive(20, body)
		if err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: the error is %v, and should name the file", name, err)
		}
		list, err := s.List()
		if err != nil || len(list) != 1 || list[0].Index != 10 {
			t.Fatalf("%s: the snapshots are %v, %v; want the one of entry 10", name, list, err)
		}
		_, rc, err := s.Open(list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkSnapshot(rc); err != nil {
			t.Errorf("%s: the old snapshot: %v", name, err)
		}
		rc.Close()
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("%s: the folder holds %v, %v", name, files, err)
		}
		if d.snap.index != 10 {
			t.Errorf("%s: the newest snapshot is taken to hold entries up to %d", name, d.snap.index)
		}
	}
}

// spoiler is a transport that damages the snapshots which it carries, as long as it is told to.
type spoiler struct {
	*raft.InmemTransport
	spoil atomic.Bool
	seen  chan error
}

// InstallSnapshot implements raft.Transport.
func (s *spoiler) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	spoilt := s.spoil.Load()
	if spoilt {
		body, err := io.ReadAll(data)
		if err != nil {
			return err
		}
		body[len(body)/2] ^= 4
		data = bytes.NewReader(body)
	}
	err := s.InmemTransport.InstallSnapshot(id, to, args, resp, data)
	if spoilt {
		select {
		case s.seen <- err:
		default:
		}
	}
	return err
}

// A member that is sent a damaged snapshot refuses it, starts again with what it had, and takes a whole one over later.
func TestDamagedSnapshotOnTheWayIsRefused(t *testing.T) {
	_, inner := raft.NewInmemTransport("one")
	way := &spoiler{InmemTransport: inner, seen: make(chan error, 1)}
	lead, err := Open(Config{Dir: t.TempDir(), ServerID: "one", ClusterID: "c", Bootstrap: true, Transport: way, Heartbeat: 100 * time.Millisecond, TrailingEntries: 2, SnapshotEntries: 100000})
	if err != nil {
		t.Fatal(err)
	}
	defer lead.Close()
	waitLeader(t, lead)
	dir := t.TempDir()
	join := func() *Store {
		_, transport := raft.NewInmemTransport("two")
		transport.Connect("one", inner)
		inner.Connect("two", transport)
		s, err := Open(Config{Dir: dir, ServerID: "two", ClusterID: "c", Join: true, Transport: transport, Heartbeat: 100 * time.Millisecond, TrailingEntries: 2})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	two := join()
	if err := lead.AddNonvoter(t.Context(), "two", "two"); err != nil {
		t.Fatal(err)
	}
	if err := two.WaitRev(t.Context(), propose(t, lead, put("/a", "1")).Last); err != nil {
		t.Fatal(err)
	}
	if err := two.Snapshot(); err != nil {
		t.Fatal(err)
	}
	was := two.View()
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	inner.Disconnect("two")
	for i := range 60 {
		propose(t, lead, put(fmt.Sprintf("/k/%d", i), noise(uint64(i), 60<<10)))
	}
	if err := lead.Snapshot(); err != nil {
		t.Fatal(err)
	}
	way.spoil.Store(true)
	two = join()
	if err := <-way.seen; err == nil {
		t.Error("the damaged snapshot was taken over")
	}
	inner.Disconnect("two")
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	way.spoil.Store(false)
	two = join()
	defer two.Close()
	if v := two.View(); v.Rev() < was.Rev() {
		t.Errorf("after the start it is at revision %d, and was at %d", v.Rev(), was.Rev())
	}
	if err := two.WaitRev(t.Context(), lead.View().Rev()); err != nil {
		t.Fatal(err)
	}
	if err := Equal(lead.View(), two.View()); err != nil {
		t.Error(err)
	}
}
