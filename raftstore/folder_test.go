package raftstore

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"reconcile/raftstore/disk"
)

// The name of a new data folder is durable, and so are those of the folders that were made above it.
func TestNewFolderIsDurable(t *testing.T) {
	var mu sync.Mutex
	var dirs []string
	base := t.TempDir()
	fsys := disk.Hook{FS: disk.OS{}, Before: func(op disk.Op, path string) error {
		if op == disk.OpSyncDir {
			mu.Lock()
			defer mu.Unlock()
			dirs = append(dirs, path)
		}
		return nil
	}}
	openOne(t, filepath.Join(base, "a", "b"), nil, func(c *Config) { c.FS = fsys }).Close()
	for _, want := range []string{base, filepath.Join(base, "a"), filepath.Join(base, "a", "b")} {
		if !slices.Contains(dirs, want) {
			t.Errorf("%s was not synced", want)
		}
	}
}
