package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Scratch opens an empty file that has no name, for what is made of the state to be sent away: nothing of it is left when it is closed, or the
// process killed. Where the folder is encrypted, and for a store in memory, it lies in memory, for the state must not come to a disk in the clear;
// else on the folder's disk. ErrNoSpace if that has no room above the reserve.
func (s *Store) Scratch() (*os.File, error) {
	if s.cfg.Storage != nil || s.storage.ring != nil {
		fd, err := unix.MemfdCreate("reconcile", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("make a file in memory: %w", err)
		}
		return os.NewFile(uintptr(fd), "memory"), nil
	}
	if err := s.roomFor(0); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.cfg.Dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err == nil {
		return f, nil
	}
	// Not every file system has files without names. A kill in between leaves an empty one, which the next start sweeps.
	if f, err = os.CreateTemp(s.cfg.Dir, "scratch-*"+scratchSuffix); err != nil {
		return nil, fmt.Errorf("make a file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("take the name off a file: %w", err), f.Close())
	}
	return f, nil
}

// scratchSuffix ends the names of files that Scratch had no time to take the names off.
const scratchSuffix = ".scratch"
