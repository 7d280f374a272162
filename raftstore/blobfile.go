package raftstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// blobFolder is Blobs in a directory: one file a blob, named by the digest's digits.
type blobFolder struct {
	fs   disk.FS
	dir  string
	ring *seal.Ring // nil: not encrypted

	mu    sync.Mutex
	dirty map[string]bool // written by this process, and not synced
}

func newBlobFolder(fsys disk.FS, dir string, ring *seal.Ring) *blobFolder {
	return &blobFolder{fs: fsys, dir: dir, ring: ring, dirty: map[string]bool{}}
}

func (f *blobFolder) path(digest string) (string, error) {
	name, ok := strings.CutPrefix(digest, "sha256:")
	if b, err := hex.DecodeString(name); !ok || err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a digest", digest)
	}
	return filepath.Join(f.dir, name), nil
}

// Put implements Blobs. What is there already may not be synced: a process before this one wrote it, and was killed.
func (f *blobFolder) Put(digest string, body []byte) error {
	if have, err := f.Get(digest); err == nil && bytes.Equal(have, body) {
		f.mark(digest)
		return nil
	}
	return f.write(digest, body)
}

func (f *blobFolder) mark(digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty[digest] = true
}

// write writes a file beside and moves it into place, so that a kill leaves no half blob.
func (f *blobFolder) write(digest string, body []byte) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	if f.ring != nil {
		body = f.ring.Seal(make([]byte, 0, len(body)+seal.Overhead), body, []byte(digest))
	}
	file, err := f.fs.Create(path + ".tmp")
	if err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	_, err = file.WriteAt(body, 0)
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.fs.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	f.mark(digest)
	return nil
}

// Sync implements Blobs.
func (f *blobFolder) Sync(digests []string) error {
	synced := 0
	for _, digest := range digests {
		f.mu.Lock()
		dirty := f.dirty[digest]
		delete(f.dirty, digest) // one that is written again meanwhile is noted again
		f.mu.Unlock()
		if !dirty {
			continue
		}
		if err := f.syncOne(digest); err != nil {
			return fmt.Errorf("sync blob %s: %w", digest, err)
		}
		synced++
	}
	if synced == 0 {
		return nil
	}
	return f.fs.SyncDir(f.dir)
}

func (f *blobFolder) syncOne(digest string) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	file, err := f.fs.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Datasync(), file.Close())
}

// Has implements Blobs.
func (f *blobFolder) Has(digest string, size uint64) bool {
	path, err := f.path(digest)
	if err != nil {
		return false
	}
	if f.ring != nil {
		size += seal.Overhead
	}
	have, err := f.fs.Size(path)
	return err == nil && uint64(have) == size
}

// keyOf is the ID of the data key that a blob is encrypted with; 0 for what is too short, which Get refuses.
func (f *blobFolder) keyOf(digest string) (uint32, error) {
	path, err := f.path(digest)
	if err != nil {
		return 0, err
	}
	file, err := f.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: %s", ErrNoBlob, digest)
	}
	if err != nil {
		return 0, fmt.Errorf("read blob: %w", err)
	}
	defer file.Close()
	b := make([]byte, 4)
	if n, err := file.ReadAt(b, 0); n < len(b) && err != nil {
		b = nil
	}
	return seal.KeyOf(b), nil
}

// Get implements Blobs.
func (f *blobFolder) Get(digest string) ([]byte, error) {
	path, err := f.path(digest)
	if err != nil {
		return nil, err
	}
	body, err := disk.ReadFile(f.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoBlob, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if f.ring != nil {
		if body, err = f.ring.Open(body, []byte(digest)); err != nil {
			return nil, fmt.Errorf("read blob %s: %w", path, damaged(err))
		}
	}
	if Digest(body) != digest {
		return nil, fmt.Errorf("read blob %s: %w", path, damaged(errors.New("its bytes are not those that its name says")))
	}
	return body, nil
}

// Remove implements Blobs.
func (f *blobFolder) Remove(digest string) error {
	path, err := f.path(digest)
	if err != nil {
		return err
	}
	f.mu.Lock()
	delete(f.dirty, digest)
	f.mu.Unlock()
	if err := f.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// List implements Blobs.
func (f *blobFolder) List() ([]string, error) {
	names, err := f.fs.List(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	var out []string
	for _, name := range names {
		if b, err := hex.DecodeString(name); err == nil && len(b) == sha256.Size {
			out = append(out, "sha256:"+name)
		}
	}
	return out, nil
}

// size is how many bytes the files take.
func (f *blobFolder) size() (n int64) {
	names, err := f.fs.List(f.dir)
	for _, name := range names {
		if size, sizeErr := f.fs.Size(filepath.Join(f.dir, name)); err == nil && sizeErr == nil {
			n += size
		}
	}
	return n
}
