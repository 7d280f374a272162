package raftstore

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
)

// maxBlob is the largest blob that may be staged: the largest pack that a push may bring.
const maxBlob = 64 << 20

// chunkSize is how much of a blob one entry carries.
const chunkSize = MaxEntry - 4096

// Blobs is a folder of bytes by digest. Put is given bytes that match the digest, and may be called again for the same one; they outlast a
// power cut once Sync has returned for them (until then the log holds them too). Get returns ErrNoBlob for what is not there and
// checks what it reads. Has only looks whether there is a file of the right size.
type Blobs interface {
	Put(digest string, body []byte) error
	Get(digest string) ([]byte, error)
	Has(digest string, size uint64) bool
	Sync(digests []string) error
	Remove(digest string) error
	List() ([]string, error)
}

// Digest is the name of a blob: "sha256:" and 64 hexadecimal digits.
func Digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// blobInfo is what the state knows of a blob: pieces until it is complete, then only its size.
type blobInfo struct {
	size   uint64
	have   uint64
	staged int64 // index of the entry that brought the last piece
	refs   int
	pieces []byte // nil when complete
	done   bool
}

func (b *blobInfo) complete() bool { return b.done }

// chunk is the value of an opChunk: total size u64, offset u64, bytes.
type chunk struct {
	total, offset uint64
	body          []byte
}

func encodeChunk(total, offset int, body []byte) []byte {
	b := make([]byte, 16, 16+len(body))
	binary.BigEndian.PutUint64(b, uint64(total))
	binary.BigEndian.PutUint64(b[8:], uint64(offset))
	return append(b, body...)
}

func decodeChunk(b []byte) (chunk, error) {
	if len(b) < 16 {
		return chunk{}, fmt.Errorf("a piece has %d bytes, less than its header", len(b))
	}
	c := chunk{total: binary.BigEndian.Uint64(b), offset: binary.BigEndian.Uint64(b[8:]), body: b[16:]}
	if c.total == 0 || c.total > maxBlob || c.offset > c.total || uint64(len(c.body)) > c.total-c.offset {
		return chunk{}, fmt.Errorf("a piece of %d bytes at %d does not fit into %d (at most %d)", len(c.body), c.offset, c.total, maxBlob)
	}
	return c, nil
}

// chunk adds a piece. Pieces come in order; one that does not continue what is there starts again if it is the first, else it is
// passed over, and the stager finds the blob incomplete. When the last piece is there and the digest matches, the blob exists.
func (s *state) chunk(op Op, at position, fx *effects) {
	c, err := decodeChunk(op.Value)
	if err != nil {
		return // check has refused it
	}
	b := s.blobs[op.Key]
	if b != nil && b.done {
		b.staged = int64(at.index)
		return
	}
	if b == nil || c.offset == 0 || b.size != c.total {
		if c.offset != 0 {
			return
		}
		b = &blobInfo{size: c.total}
		s.blobs[op.Key] = b
	}
	if c.offset != b.have {
		return
	}
	b.pieces = append(b.pieces, c.body...)
	b.have += uint64(len(c.body))
	b.staged = int64(at.index)
	if b.have < b.size {
		return
	}
	if Digest(b.pieces) != op.Key {
		delete(s.blobs, op.Key)
		return
	}
	if fx.store == nil {
		fx.store = map[string][]byte{}
	}
	fx.store[op.Key] = b.pieces
	b.pieces, b.done = nil, true
}

// drop forgets a blob that nothing refers to.
func (s *state) drop(digest string, fx *effects) {
	if b := s.blobs[digest]; b != nil && b.refs == 0 {
		fx.remove = append(fx.remove, digest)
	}
}

// memoryBlobs is Blobs in memory, for tests.
type memoryBlobs struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (m *memoryBlobs) Put(digest string, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m[digest] = append([]byte(nil), body...)
	return nil
}

func (m *memoryBlobs) Get(digest string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.m[digest]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoBlob, digest)
	}
	return b, nil
}

func (m *memoryBlobs) Has(digest string, size uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.m[digest]
	return ok && uint64(len(b)) == size
}

func (m *memoryBlobs) Sync([]string) error { return nil }

func (m *memoryBlobs) Remove(digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, digest)
	return nil
}

func (m *memoryBlobs) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for d := range m.m {
		out = append(out, d)
	}
	return out, nil
}
