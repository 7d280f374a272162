// Package disk is the file layer of the store: the few operations that its files need, each of which says when it is durable.
//
// It owns nothing but open files and knows nothing of what is written to them. Everything that raftstore keeps goes through an FS, so
// that a test can count the syncs of a write, make one fail, or stop between two of them (Hook).
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reconcile/internal/mutant"
)

// FS is a file system. Paths are those of the operating system. Errors match those of package io/fs.
type FS interface {
	// Create makes or empties a file for reading and writing, readable by its owner only.
	Create(path string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(path string) (File, error)
	// Rename and Remove are durable once SyncDir of the folder has returned.
	Rename(from, to string) error
	Remove(path string) error
	// List gives the names in a folder, in order.
	List(dir string) ([]string, error)
	// Size is a file's length in bytes.
	Size(path string) (int64, error)
	// MkdirAll makes a folder and what is missing above it.
	MkdirAll(dir string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
	// Space is how many bytes the file system of a folder has, and how many of them its user may still take.
	Space(dir string) (total, free uint64, err error)
}

// File is an open file. Offsets are explicit, so that several goroutines may read while one writes.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Allocate reserves room for the file up to size, and makes it that long; what was never written reads as zeros.
	Allocate(size int64) error
	// Datasync makes the content durable, and of the rest what is needed to read it. Nothing is known of the content after an error.
	Datasync() error
}

// OS is the operating system's file system.
type OS struct{}

// Create implements FS.
func (OS) Create(path string) (File, error) {
	return open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (OS) Open(path string) (File, error) { return open(path, os.O_RDWR) }

func open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(path string) error { return os.Remove(path) }

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Size implements FS.
func (OS) Size(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// MkdirAll implements FS.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Space implements FS.
func (OS) Space(dir string) (total, free uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := uint64(st.Bsize)
	return st.Blocks * size, st.Bavail * size, nil
}

type file struct{ *os.File }

// Allocate implements File. A file system that cannot reserve leaves a hole.
func (f file) Allocate(size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = f.Truncate(size)
	}
	if err != nil {
		return &fs.PathError{Op: "allocate", Path: f.Name(), Err: err}
	}
	return nil
}

// Datasync implements File.
func (f file) Datasync() error {
	if mutant.NoSync {
		return nil
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// NoSpace tells whether an error says that the disk, or the owner's share of it, is full.
func NoSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// WriteFile writes a file wholly or not at all, and returns when it outlasts a power cut.
func WriteFile(fsys FS, path string, body []byte) error {
	tmp := path + ".tmp"
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(body, 0)
	if err == nil {
		err = f.Datasync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReadFile reads a whole file.
func ReadFile(fsys FS, path string) ([]byte, error) {
	size, err := fsys.Size(path)
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body := make([]byte, size)
	if n, err := f.ReadAt(body, 0); n < len(body) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return body, nil
}
