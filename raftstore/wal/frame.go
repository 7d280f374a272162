package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/internal/mutant"
)

// A frame is one entry in a segment, little endian, at an offset that is a multiple of 8:
//
//	 0 data length u32 | 4 extensions' length u32 | 8 index u64 | 16 term u64 | 24 appended i64 (ns since 1970; 0: not said)
//	32 type u8, 3 zeros | 36 batch u32: the offset of the first frame of the same write | 40 crc32c of salt and bytes 0..40
//	44 data | extensions | crc32c of salt, bytes 0..44, data and extensions | zeros up to a multiple of 8
//
// The salt is the segment's: a frame of another segment, or of what the disk held before, does not pass.
//
// On the disk each word of 8 bytes is XORed with the salt (from format 2 of the segment on). So no word of a frame is zero there, but for one
// in 2^64, whatever is in it: a sector that reads as zeros was never written, and damage to what was written is no torn write.
const (
	frameHeader  = 44
	frameTrailer = 4
	frameAlign   = 8
	// maxFrame bounds what a damaged length can ask for. Offsets are 32 bits wide.
	maxFrame = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func align(n int64) int64 { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// whiten XORs words with the mask, and undoes it. 0 changes nothing.
func whiten(b []byte, mask uint64) {
	if mask == 0 {
		return
	}
	for len(b) >= frameAlign {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^mask)
		b = b[frameAlign:]
	}
}

// blank tells whether bytes that were read and whitened were zeros on the disk; b begins at a multiple of 8 and has whole words.
func blank(b []byte, mask uint64) bool {
	for len(b) >= frameAlign {
		if binary.LittleEndian.Uint64(b) != mask {
			return false
		}
		b = b[frameAlign:]
	}
	return true
}

// frameSize is how many bytes an entry takes in a segment.
func frameSize(l *raft.Log) int64 {
	return align(int64(frameHeader + len(l.Data) + len(l.Extensions) + frameTrailer))
}

func saltSum(salt uint64) uint32 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], salt)
	return crc32.Checksum(b[:], castagnoli)
}

// appendFrame adds an entry's frame to b. batch is the offset in the segment at which the write begins.
func appendFrame(b []byte, l *raft.Log, salt uint64, batch uint32) []byte {
	from := len(b)
	var h [frameHeader]byte
	binary.LittleEndian.PutUint32(h[0:], uint32(len(l.Data)))
	binary.LittleEndian.PutUint32(h[4:], uint32(len(l.Extensions)))
	binary.LittleEndian.PutUint64(h[8:], l.Index)
	binary.LittleEndian.PutUint64(h[16:], l.Term)
	if !l.AppendedAt.IsZero() {
		binary.LittleEndian.PutUint64(h[24:], uint64(l.AppendedAt.UnixNano()))
	}
	h[32] = byte(l.Type)
	binary.LittleEndian.PutUint32(h[36:], batch)
	binary.LittleEndian.PutUint32(h[40:], crc32.Update(saltSum(salt), castagnoli, h[:40]))
	b = append(append(append(b, h[:]...), l.Data...), l.Extensions...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(saltSum(salt), castagnoli, b[from:]))
	for len(b)%frameAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// head is what a frame's header says.
type head struct {
	data, ext   uint32
	index, term uint64
	appended    int64
	kind        raft.LogType
	batch       uint32
}

// size is the frame's length in the segment.
func (h head) size() int64 {
	return align(int64(frameHeader) + int64(h.data) + int64(h.ext) + frameTrailer)
}

// readHead reads the header at the beginning of b; false if there is none that the salt fits.
func readHead(b []byte, salt uint64) (head, bool) {
	if len(b) < frameHeader || crc32.Update(saltSum(salt), castagnoli, b[:40]) != binary.LittleEndian.Uint32(b[40:]) {
		return head{}, false
	}
	h := head{
		data: binary.LittleEndian.Uint32(b[0:]), ext: binary.LittleEndian.Uint32(b[4:]),
		index: binary.LittleEndian.Uint64(b[8:]), term: binary.LittleEndian.Uint64(b[16:]),
		appended: int64(binary.LittleEndian.Uint64(b[24:])), kind: raft.LogType(b[32]), batch: binary.LittleEndian.Uint32(b[36:]),
	}
	return h, h.size() <= maxFrame
}

// readFrame reads the frame at the beginning of b into l. Data and extensions share b.
func readFrame(b []byte, salt uint64, l *raft.Log) (head, error) {
	h, ok := readHead(b, salt)
	if !ok {
		return h, fmt.Errorf("%w: its header", errChecksum)
	}
	end := int64(frameHeader) + int64(h.data) + int64(h.ext)
	if int64(len(b)) < end+frameTrailer {
		return h, fmt.Errorf("%w: it is cut after %d of %d bytes", errChecksum, len(b), end+frameTrailer)
	}
	if crc32.Update(saltSum(salt), castagnoli, b[:end]) != binary.LittleEndian.Uint32(b[end:]) && !mutant.IgnoreChecksum {
		return h, errChecksum
	}
	*l = raft.Log{Index: h.index, Term: h.term, Type: h.kind}
	if h.appended != 0 {
		l.AppendedAt = time.Unix(0, h.appended)
	}
	if h.data > 0 {
		l.Data = b[frameHeader : frameHeader+h.data : frameHeader+h.data]
	}
	if h.ext > 0 {
		l.Extensions = b[int64(frameHeader)+int64(h.data) : end : end]
	}
	return h, nil
}
