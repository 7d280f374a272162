package raftstore

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/wal"
)

// openDurable opens a log of our own with all that wraps it but raft.
func openDurable(t *testing.T, fsys disk.FS) (*durable, *raft.LogCache) {
	t.Helper()
	w, err := wal.Open(wal.Options{Dir: t.TempDir(), FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	d := &durable{LogStore: w, checked: true, mark: noMark{}, ids: &memoryIdentity{}, fail: func(error) {}}
	cache, err := raft.NewLogCache(128, d)
	if err != nil {
		t.Fatal(err)
	}
	return d, cache
}

func plain(from, to, term uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: term, Data: fmt.Append(nil, i)})
	}
	return logs
}

// installed is what raft does with the log when it has installed a snapshot (installSnapshot, removeOldLogs): it deletes all entries of one
// that takes no gaps.
func installed(t *testing.T, d *durable, log raft.LogStore, snap position) error {
	t.Helper()
	if err := d.snapshotted(snap); err != nil {
		t.Fatal(err)
	}
	if m, ok := log.(raft.MonotonicLogStore); !ok || !m.IsMonotonic() {
		return nil
	}
	first, err1 := log.FirstIndex()
	last, err2 := log.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return log.DeleteRange(first, last)
}

// Entries of before an installed snapshot are gone from raft's cache too: it would go on with them where another term's belong.
func TestInstalledSnapshotLeavesNoStaleEntry(t *testing.T) {
	d, cache := openDurable(t, nil)
	if err := cache.StoreLogs(plain(1, 100, 1)); err != nil {
		t.Fatal(err)
	}
	if err := installed(t, d, cache, position{2, 1000}); err != nil {
		t.Fatal(err)
	}
	if last, ok := d.reach(); !ok || last != (position{2, 1000}) {
		t.Errorf("the member reaches to %v, %v", last, ok)
	}
	if err := cache.StoreLogs(plain(1001, 1001, 2)); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	for i := uint64(1); i <= 100; i++ {
		if err := cache.GetLog(i, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry %d of before the snapshot is still there: term %d, %v", i, l.Term, err)
		}
	}
	if err := cache.GetLog(1001, &l); err != nil || l.Term != 2 {
		t.Errorf("entry 1001: term %d, %v", l.Term, err)
	}
	if first, err := cache.FirstIndex(); err != nil || first != 1001 {
		t.Errorf("the log begins at %d, %v", first, err)
	}
}

// A disk that is full while the log is cut or begun anew behind a snapshot does not stop the member: nothing was changed, and raft tries again.
func TestFullDiskWhileCuttingDoesNotStop(t *testing.T) {
	full := false
	d, cache := openDurable(t, disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, _ string) error {
		if full && op == disk.OpAllocate {
			return syscall.ENOSPC
		}
		return nil
	}})
	if err := cache.StoreLogs(plain(1, 100, 1)); err != nil {
		t.Fatal(err)
	}
	full = true
	if err := cache.DeleteRange(91, 100); !errors.Is(err, wal.ErrNoSpace) {
		t.Errorf("cut: %v", err)
	}
	if last, err := cache.LastIndex(); err != nil || last != 100 {
		t.Errorf("after a cut that failed the log ends at %d, %v", last, err)
	}
	if err := installed(t, d, cache, position{2, 1000}); !errors.Is(err, wal.ErrNoSpace) {
		t.Errorf("empty the log: %v", err)
	}
	if err := d.StoreLogs(plain(1001, 1001, 2)); !errors.Is(err, wal.ErrNoSpace) {
		t.Errorf("append behind the snapshot: %v", err)
	}
	if err := d.failed(); err != nil {
		t.Fatalf("the member has stopped: %v", err)
	}
	full = false
	if err := cache.StoreLogs(plain(1001, 1001, 2)); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := cache.GetLog(96, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 96: term %d, %v", l.Term, err)
	}
	if last, ok := d.reach(); !ok || last != (position{2, 1001}) {
		t.Errorf("the member reaches to %v, %v", last, ok)
	}
}

// A term that goes back is never written, whoever asks for it.
func TestTermNeverGoesBack(t *testing.T) {
	d, _ := openDurable(t, nil)
	var err error
	if d.stable, err = openBallot(raft.NewInmemStore(), false); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.SetUint64([]byte(keyTerm), 7), d.SetUint64([]byte(keyTerm), 7)); err != nil {
		t.Fatal(err)
	}
	if err := d.SetUint64([]byte(keyTerm), 6); err == nil {
		t.Error("the term went back from 7 to 6")
	}
	if term, err := d.GetUint64([]byte(keyTerm)); err != nil || term != 7 {
		t.Errorf("the term is %d, %v", term, err)
	}
}
