package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// FuzzHeader reads any sector, with the right checksum, as that of a segment: what is taken is what is written again, as far as it says anything.
func FuzzHeader(f *testing.F) {
	f.Add(header{format: 2, log: 1, number: 2, first: 3, salt: 4, prevNumber: 5, prevSalt: 6, size: 7}.encode())
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= sector {
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[headerUsed-4:], crc32.Checksum(b[:headerUsed-4], castagnoli))
		}
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		again, err := decodeHeader(h.encode())
		if err != nil || again != h {
			t.Fatalf("%+v is written and read as %+v, %v", h, again, err)
		}
	})
}
