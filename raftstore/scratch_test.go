package raftstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// A scratch file has no name, and does not lie on a disk if the store's folder is encrypted.
func TestScratchHasNoName(t *testing.T) {
	for name, tc := range map[string]struct {
		key  seal.Source
		want func(dir, link string) bool
	}{
		"encrypted": {seal.File(filepath.Join(t.TempDir(), "outer.key")), func(_, link string) bool { return strings.HasPrefix(link, "/memfd:") }},
		"in the clear": {nil, func(dir, link string) bool {
			return strings.HasPrefix(link, dir+"/") && strings.HasSuffix(link, " (deleted)")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openOne(t, dir, nil, func(c *Config) { c.Key = tc.key })
			before := fmt.Sprint(listFiles(t, dir))
			f, err := s.Scratch()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString(canary); err != nil {
				t.Fatal(err)
			}
			if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil || !tc.want(dir, link) {
				t.Errorf("the file is %s (%v)", link, err)
			}
			if now := fmt.Sprint(listFiles(t, dir)); now != before {
				t.Errorf("the folder held %s, and now %s", before, now)
			}
		})
	}
}

// nearlyFull has room for the reserve only, from now on.
type nearlyFull struct {
	disk.FS
	now atomic.Bool
}

// Space implements disk.FS.
func (d *nearlyFull) Space(dir string) (total, free uint64, err error) {
	if d.now.Load() {
		return 100 << 30, reserve - 1, nil
	}
	return d.FS.Space(dir)
}

// What a kill left of a scratch file is swept, and a disk that is nearly full is left to the log.
func TestScratchLeavesTheDiskAlone(t *testing.T) {
	dir, fsys := t.TempDir(), &nearlyFull{FS: disk.OS{}}
	left := filepath.Join(dir, "scratch-1"+scratchSuffix)
	if err := disk.WriteFile(disk.OS{}, left, nil); err != nil {
		t.Fatal(err)
	}
	s := openOne(t, dir, nil, func(c *Config) { c.FS = fsys })
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the file that was left: %v", err)
	}
	fsys.now.Store(true)
	if f, err := s.Scratch(); err == nil {
		f.Close()
		t.Error("a scratch file is made on a disk that has only the reserve")
	}
}
