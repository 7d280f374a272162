package api

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/flate"
)

// piece is a run of bytes, deflated by itself: it refers to nothing before it and ends at a full byte (deflate's sync flush, RFC 1951), so that pieces
// which were made at different times can stand one after another in one gzip member, as one answer, of which nothing is compressed again. Several
// members would be simpler; there are clients that stop after the first.
type piece struct {
	deflated []byte
	// size is that of the plain bytes, and sum their CRC-32.
	size int
	sum  uint32
	// ahead is what a sum of bytes that stand before these is to be multiplied by.
	ahead uint32
}

// deflaters are compressors that wait for work: to make one takes longer than to compress a small list.
type deflaters struct{ pool sync.Pool }

// piece deflates bytes that are given in parts.
func (d *deflaters) piece(parts [][]byte) (*piece, error) {
	var out bytes.Buffer
	w, ok := d.pool.Get().(*flate.Writer)
	if ok {
		w.Reset(&out)
	} else {
		var err error
		if w, err = flate.NewWriter(&out, flate.BestSpeed); err != nil {
			return nil, err
		}
	}
	defer d.pool.Put(w)
	p := &piece{}
	for _, b := range parts {
		p.size += len(b)
		p.sum = crc32.Update(p.sum, crc32.IEEETable, b)
		if _, err := w.Write(b); err != nil {
			return nil, err
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	w.Reset(io.Discard) // who waits holds nobody's bytes
	p.deflated, p.ahead = bytes.Clone(out.Bytes()), shift(p.size)
	return p, nil
}

// member is one gzip member (RFC 1952) that is put together.
type member struct {
	parts [][]byte
	size  int
	sum   uint32
}

// gzipHead says: deflate, no name, no time, of an unknown system.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

func newMember() *member { return &member{parts: [][]byte{gzipHead}} }

func (m *member) add(p *piece) {
	m.parts = append(m.parts, p.deflated)
	m.sum = times(m.sum, p.ahead) ^ p.sum
	m.size += p.size
}

// plain adds a few bytes as they are, in stored blocks.
func (m *member) plain(b []byte) {
	m.sum = crc32.Update(m.sum, crc32.IEEETable, b)
	m.size += len(b)
	for len(b) > 0 {
		n := min(len(b), math.MaxUint16)
		block := make([]byte, 1, 5+n) // not the last, and stored
		block = binary.LittleEndian.AppendUint16(block, uint16(n))
		block = binary.LittleEndian.AppendUint16(block, ^uint16(n))
		m.parts = append(m.parts, append(block, b[:n]...))
		b = b[n:]
	}
}

// end returns the whole member.
func (m *member) end() [][]byte {
	end := []byte{1, 0, 0, 0xff, 0xff} // a last block, stored and empty
	end = binary.LittleEndian.AppendUint32(end, m.sum)
	end = binary.LittleEndian.AppendUint32(end, uint32(m.size))
	m.parts = append(m.parts, end)
	return m.parts
}

// times multiplies two polynomials over GF(2) modulo that of CRC-32. As everywhere in CRC-32 the highest bit is the coefficient of x^0.
func times(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a>>31 == 1 {
			product ^= b
		}
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

// shift is x^(8n): the CRC-32 of A and then B is that of A times shift(len(B)), plus that of B (the method is that of zlib's crc32_combine).
func shift(n int) uint32 {
	power := uint32(1) << 31 // x^0
	for square := uint32(1) << (31 - 8); n > 0; n >>= 1 {
		if n&1 == 1 {
			power = times(power, square)
		}
		square = times(square, square)
	}
	return power
}
