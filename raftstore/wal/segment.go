package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"

	"reconcile/internal/fp"
	"reconcile/raftstore/disk"
)

// A segment is a file of zeros that were written and synced before its first frame, so that a later fdatasync has no block to map and
// no length to note: it writes the frames and nothing else. It begins with a header of one sector, little endian:
//
//	0 magic | 8 version u32 | 12 zero u32 | 16 log u64 | 24 number u64 | 32 first index u64 | 40 salt u64 | 48 previous number u64
//	56 previous salt u64 | 64 size u64 | 72 crc32c of bytes 0..72
//
// A segment that follows another names it. Entries from its first index on are void in those before it: that is how the log is cut at
// its end. One that follows none (previous number 0) begins the log anew, and makes all before it void.
const (
	sector        = 512
	segmentMagic  = "rcnwal\r\n"
	segmentFormat = 2 // 1 had its frames in plain
	headerUsed    = 76
	suffix        = ".wal"
	spareName     = "spare.tmp"
)

// header is what a segment's first sector says.
type header struct {
	format                   uint32
	log, number, first, salt uint64
	prevNumber, prevSalt     uint64
	size                     int64
}

func (h header) encode() []byte {
	b := make([]byte, sector)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], h.format)
	for i, v := range []uint64{h.log, h.number, h.first, h.salt, h.prevNumber, h.prevSalt, uint64(h.size)} {
		binary.LittleEndian.PutUint64(b[16+8*i:], v)
	}
	binary.LittleEndian.PutUint32(b[headerUsed-4:], crc32.Checksum(b[:headerUsed-4], castagnoli))
	return b
}

func decodeHeader(b []byte) (header, error) {
	if len(b) < sector || string(b[:8]) != segmentMagic {
		return header{}, fmt.Errorf("%w: it does not begin as a segment does", errChecksum)
	}
	if crc32.Checksum(b[:headerUsed-4], castagnoli) != binary.LittleEndian.Uint32(b[headerUsed-4:]) {
		return header{}, fmt.Errorf("%w: its header", errChecksum)
	}
	format := binary.LittleEndian.Uint32(b[8:])
	if format == 0 || format > segmentFormat {
		return header{}, fmt.Errorf("it has format %d, this version knows 1 to %d", format, segmentFormat)
	}
	var v [7]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
	return header{format: format, log: v[0], number: v[1], first: v[2], salt: v[3], prevNumber: v[4], prevSalt: v[5], size: int64(v[6])}, nil
}

// mask is what the frames' words are XORed with.
func (h header) mask() uint64 {
	if h.format < 2 {
		return 0
	}
	return h.salt
}

// segment is an open segment. offsets[i] is where entry first+i begins: 4 bytes an entry is all that the log keeps in memory.
type segment struct {
	header
	path    string
	file    disk.File
	offsets []uint32
	end     int64 // where the next frame goes
}

func (s *segment) last() uint64 { return s.first + uint64(len(s.offsets)) - 1 }

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, suffix) }

func segmentNumber(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, suffix)
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, ok && err == nil && len(hex) == 16 && n > 0
}

// prepare makes the spare file: size bytes of zeros, durable.
func prepare(fsys disk.FS, dir string, size int64) error {
	path := filepath.Join(dir, spareName)
	f, err := fsys.Create(path)
	if err != nil {
		return fmt.Errorf("make a segment: %w", err)
	}
	err = f.Allocate(size)
	zeros := make([]byte, 1<<20)
	for at := int64(0); err == nil && at < size; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
	}
	if err == nil {
		err = f.Datasync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		_ = fsys.Remove(path) // gives the room back
		return fmt.Errorf("make a segment of %d bytes: %w", size, err)
	}
	fp.Hit("raftstore/wal-prepared")
	return nil
}

// activate makes the spare file a segment.
func activate(fsys disk.FS, dir string, h header) (*segment, error) {
	spare, path := filepath.Join(dir, spareName), filepath.Join(dir, segmentName(h.number))
	f, err := fsys.Open(spare)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(h.encode(), 0); err == nil {
		err = f.Datasync()
	}
	if err == nil {
		fp.Hit("raftstore/wal-next")
		err = fsys.Rename(spare, path)
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin segment %s: %w", path, err), f.Close())
	}
	return &segment{header: h, path: path, file: f, end: sector}, nil
}
