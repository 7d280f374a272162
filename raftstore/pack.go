package raftstore

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// packFrom is the size from which an entry's operations are compressed. Those of a cascade are alike (a thousand pods of one
// template), so that 2 MiB of them fit into one entry where they would have taken nine.
const packFrom = 32 << 10

// maxPacked bounds what a packed list may become when it is unpacked.
const maxPacked = 256 << 20

// packer packs and unpacks lists of operations. It may be used by many goroutines.
type packer struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newPacker() *packer {
	// Neither can fail: the options are constants.
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPacked))
	return &packer{enc: enc, dec: dec}
}

// A packed list is zstd around: magic, count u32, operations.
const packMagic = "ops\x00"

func (p *packer) pack(ops []Op) []byte {
	b := make([]byte, 8, 8+opsSize(ops))
	copy(b, packMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(ops)))
	return p.enc.EncodeAll(appendOps(b, ops), nil)
}

// unpack returns errMalformed for what is not a packed list of puts, deletes, lease operations, compactions, touches and notes of places.
func (p *packer) unpack(body []byte) ([]Op, error) {
	b, err := p.dec.DecodeAll(body, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", errMalformed, err)
	}
	if len(b) < 8 || string(b[:4]) != packMagic {
		return nil, fmt.Errorf("%w: what is packed does not begin with %q", errMalformed, packMagic)
	}
	ops, err := decodeOps(b[8:], binary.BigEndian.Uint32(b[4:]))
	if err != nil {
		return nil, err
	}
	for i, op := range ops {
		switch op.Kind {
		case Put, PutRef, Delete, opLeaseGrant, opLeaseRevoke, opCompact, opTouch, opPlace:
		default:
			return nil, fmt.Errorf("%w: packed operation %d has kind %d", errMalformed, i, op.Kind)
		}
	}
	return ops, nil
}
