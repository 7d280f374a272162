// Package diskspace tells how full the file system of a folder is, and whether that is too full.
//
// It owns the reading (statfs) and the words; it knows neither what fills a disk nor what is done about it. How data passes through: a
// FileSystem gives Space, a Threshold makes of it a sentence or nothing.
package diskspace

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is what a file system has, in bytes and inodes. Free is what a user without privilege may still take. Inodes is 0 where the file
// system does not count them.
type Space struct {
	Total, Free        uint64
	Inodes, InodesFree uint64
}

// UsedPercent is the part of the bytes that is taken, in whole percent rounded down; 0 of a file system without size.
func (s Space) UsedPercent() int {
	if s.Total == 0 {
		return 0
	}
	return int(100 - percent(s.Free, s.Total))
}

// percent is rounded up, so that what is left over counts as used only when it is whole.
func percent(part, whole uint64) uint64 { return (part*100 + whole - 1) / whole }

// FileSystem is what is watched.
type FileSystem interface {
	// Space reads the space now. It may block on a disk.
	Space() (Space, error)
}

// At is the file system that holds a folder, which may be another one at each call.
type At string

// Space implements FileSystem.
func (dir At) Space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(dir), &st); err != nil {
		return Space{}, fmt.Errorf("read the free space of %s: %w", string(dir), err)
	}
	size := uint64(st.Bsize)
	return Space{Total: st.Blocks * size, Free: st.Bavail * size, Inodes: st.Files, InodesFree: st.Ffree}, nil
}

// Threshold is the least that must be free, in percent of bytes and of inodes.
type Threshold struct{ Free, Inodes int }

// Kubelet is the kubelet's eviction threshold of a node's file system: nodefs.available<10%, nodefs.inodesFree<5%.
func Kubelet() Threshold { return Threshold{Free: 10, Inodes: 5} }

// Low says what there is too little of; empty if there is enough.
func (t Threshold) Low(s Space) string {
	if s.Total > 0 && s.Free*100 < uint64(t.Free)*s.Total {
		return fmt.Sprintf("%s of %s are free, under %d %%", size(s.Free), size(s.Total), t.Free)
	}
	if s.Inodes > 0 && s.InodesFree*100 < uint64(t.Inodes)*s.Inodes {
		return fmt.Sprintf("%d of %d inodes are free, under %d %%", s.InodesFree, s.Inodes, t.Inodes)
	}
	return ""
}

func size(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
