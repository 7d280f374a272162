package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"sync"

	"reconcile/raftstore/disk"
)

// A mark notes the last entry that was made durable, right after it was: the end of a log that lost its last entries looks like one
// whose last write was interrupted, and only the mark tells them apart. It is written at once and synced rarely (with the
// identity and when the member closes), so that it costs an append no sync. A killed process loses none of it, for the kernel has it; a
// power cut loses what the kernel had not written yet, some seconds' worth. It is never ahead of the log.
type mark interface {
	load() (position, error)
	note(p position) error
	// lower is note, durable on return: it comes before the log is cut.
	lower(p position) error
	sync() error
	close() error
}

// The mark's file, little endian: magic | 8 term u64 | 16 index u64 | 24 hash of the folder's name u64 | 32 crc32c of the bytes before.
const (
	markMagic = "rcnmark1"
	markSize  = 36
)

// errMissing tells that a file of the folder is not there.
var errMissing = errors.New("the file is missing")

type markFile struct {
	fs     disk.FS
	path   string
	folder uint64

	mu   sync.Mutex
	file disk.File
}

func (m *markFile) encode(p position) []byte {
	b := make([]byte, markSize)
	copy(b, markMagic)
	binary.LittleEndian.PutUint64(b[8:], p.term)
	binary.LittleEndian.PutUint64(b[16:], p.index)
	binary.LittleEndian.PutUint64(b[24:], m.folder)
	binary.LittleEndian.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
	return b
}

func (m *markFile) load() (position, error) {
	b, err := disk.ReadFile(m.fs, m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return position{}, fmt.Errorf("%s: %w", m.path, damaged(errMissing))
	}
	if err != nil {
		return position{}, err
	}
	if len(b) != markSize || string(b[:8]) != markMagic || binary.LittleEndian.Uint32(b[32:]) != crc32.Checksum(b[:32], castagnoli) {
		return position{}, fmt.Errorf("%s: %w", m.path, damaged(errChecksum))
	}
	if binary.LittleEndian.Uint64(b[24:]) != m.folder {
		return position{}, fmt.Errorf("%s: %w", m.path, damaged(errors.New("it is of another folder")))
	}
	return position{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}, nil
}

// create makes the file of a new folder, durable.
func (m *markFile) create(p position) error { return disk.WriteFile(m.fs, m.path, m.encode(p)) }

func (m *markFile) note(p position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		f, err := m.fs.Open(m.path)
		if err != nil {
			return err
		}
		m.file = f
	}
	_, err := m.file.WriteAt(m.encode(p), 0)
	return err
}

func (m *markFile) lower(p position) error { return errors.Join(m.note(p), m.sync()) }

func (m *markFile) sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	return m.file.Datasync()
}

func (m *markFile) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// noMark is for storage in memory, which loses nothing.
type noMark struct{}

func (noMark) load() (position, error) { return position{}, nil }
func (noMark) note(position) error     { return nil }
func (noMark) lower(position) error    { return nil }
func (noMark) sync() error             { return nil }
func (noMark) close() error            { return nil }
