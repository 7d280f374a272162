package faulttest_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"reconcile/internal/faulttest"
)

func write(t *testing.T, path, text string, sync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

func syncFolder(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// The disk must forget what was not synced, and nothing else.
func TestDiskForgetsWhatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	d := faulttest.MountDisk(t, dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, sub := range []string{"a", "b"} {
		if err := os.MkdirAll(at(sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("a/kept"), "one ", true)
	write(t, at("a/kept"), "two", false)
	write(t, at("a/lost"), "all", false)
	write(t, at("b/new"), "content", true)
	write(t, at("a/old"), "content", true)
	if err := os.Rename(at("b/new"), at("b/renamed")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at("a/old"), at("a/moved")); err != nil {
		t.Fatal(err)
	}
	syncFolder(t, at("b"))
	d.PowerCut(0)
	for name, want := range map[string]string{"a/kept": "one ", "b/renamed": "content", "a/old": "content"} {
		if b, err := os.ReadFile(at(name)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
		}
	}
	for _, name := range []string{"a/lost", "b/new", "a/moved"} {
		if _, err := os.Stat(at(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	d.Break(faulttest.DiskFaults{Full: true})
	if err := os.WriteFile(at("a/kept"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing to a full disk: %v", err)
	}
	d.Break(faulttest.DiskFaults{SyncErrorFrom: 2})
	f, err := os.OpenFile(at("a/kept"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	first, second := f.Sync(), f.Sync()
	f.Close() // before the disk goes
	if first != nil || !errors.Is(second, syscall.EIO) {
		t.Errorf("the first fsync: %v, the second: %v; want an error of the second", first, second)
	}
}
