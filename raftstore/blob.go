package raftstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxBlob is the largest blob that may be staged: the largest pack that a push may bring.
const maxBlob = 64 << 20

// chunkSize is how much of a blob one entry carries.
const chunkSize = MaxEntry - 4096

// Blobs is a folder of bytes by digest. Put is given bytes that match the digest, and may be called again for the same one. They need
// not outlast a power cut: the log and the snapshots hold them too, and every start puts them again. Get returns ErrNoBlob for what
// is not there and checks what it reads.
type Blobs interface {
	Put(digest string, body []byte) error
	Get(digest string) ([]byte, error)
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
	staged int64 // time of the entry that brought the last piece
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
func (s *state) chunk(op Op, fx *effects) {
	c, err := decodeChunk(op.Value)
	if err != nil {
		return // check has refused it
	}
	b := s.blobs[op.Key]
	if b != nil && b.done {
		b.staged = s.stamp
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
	b.staged = s.stamp
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

// blobFolder is Blobs in a directory: one file a blob, named by the digest's digits.
type blobFolder struct{ dir string }

func (f blobFolder) path(digest string) (string, error) {
	name, ok := strings.CutPrefix(digest, "sha256:")
	if b, err := hex.DecodeString(name); !ok || err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a digest", digest)
	}
	return filepath.Join(f.dir, name), nil
}

// Put writes a file beside and moves it into place, so that a cut leaves no half blob.
func (f blobFolder) Put(digest string, body []byte) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, body) {
		return nil
	}
	if err := os.WriteFile(path+".tmp", body, 0o600); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	return nil
}

func (f blobFolder) Get(digest string) ([]byte, error) {
	path, err := f.path(digest)
	if err != nil {
		return nil, err
	}
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoBlob, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if Digest(body) != digest {
		return nil, fmt.Errorf("read blob %s: the file %s has other bytes than its name says", digest, path)
	}
	return body, nil
}

func (f blobFolder) Remove(digest string) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

func (f blobFolder) List() ([]string, error) {
	files, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	var out []string
	for _, e := range files {
		if b, err := hex.DecodeString(e.Name()); err == nil && len(b) == sha256.Size {
			out = append(out, "sha256:"+e.Name())
		}
	}
	return out, nil
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
