package raftstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"sync"

	"reconcile/internal/fp"
	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// blobFolder is Blobs in a directory: one file a blob, named by the digest's digits.
type blobFolder struct {
	fs   disk.FS
	dir  string
	ring *seal.Ring // nil: not encrypted
	// sick stops the member: after a failed sync nobody knows what is on the disk, and a second one would say that all is well. Nil: nobody is to
	// stop.
	sick func(what string, err error) error

	mu    sync.Mutex
	dirty map[string]bool // written by this process, and not synced
	// waiting are bodies that the disk had no room for. Their pieces stand in the log, which is not cut meanwhile: a snapshot that names
	// them cannot be finished (Sync). So the member may go on.
	waiting map[string][]byte
}

func newBlobFolder(fsys disk.FS, dir string, ring *seal.Ring) *blobFolder {
	return &blobFolder{fs: fsys, dir: dir, ring: ring, dirty: map[string]bool{}, waiting: map[string][]byte{}}
}

func (f *blobFolder) path(digest string) (string, error) {
	name, ok := strings.CutPrefix(digest, "sha256:")
	if b, err := hex.DecodeString(name); !ok || err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a digest", digest)
	}
	return filepath.Join(f.dir, name), nil
}

// Put implements Blobs. What is there already may not be synced: a process before this one wrote it, and was killed. What a full disk has no
// room for waits in memory.
func (f *blobFolder) Put(digest string, body []byte) error {
	if have, err := f.Get(digest); err == nil && bytes.Equal(have, body) {
		f.mark(digest)
		return nil
	}
	err := f.write(digest, body, false)
	if disk.NoSpace(err) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting[digest] = body
		return nil
	}
	return err
}

// waits is the body of a blob that waits for room, nil for none.
func (f *blobFolder) waits(digest string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting[digest]
}

// waitingErr is ErrNoSpace if blobs wait for room.
func (f *blobFolder) waitingErr() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		return nil
	}
	n := 0
	for _, b := range f.waiting {
		n += len(b)
	}
	return fmt.Errorf("%w: %d blobs of %d KiB wait in memory for room in %s, and no snapshot can be taken. Free some space", ErrNoSpace, len(f.waiting), n>>10, f.dir)
}

// settle writes what waits for room, and tells how many blobs that were.
func (f *blobFolder) settle() (n int, err error) {
	f.mu.Lock()
	waiting := maps.Clone(f.waiting)
	f.mu.Unlock()
	for digest, body := range waiting {
		if err := f.write(digest, body, false); disk.NoSpace(err) {
			return n, f.waitingErr()
		} else if err != nil {
			return n, err
		}
		n++
		f.mu.Lock()
		_, still := f.waiting[digest]
		delete(f.waiting, digest)
		f.mu.Unlock()
		if !still { // forgotten while it was written
			if err := f.Remove(digest); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (f *blobFolder) mark(digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty[digest] = true
}

// write writes a file beside and moves it into place, so that a kill leaves no half blob. Where it takes the place of one that is durable, it
// is durable first.
func (f *blobFolder) write(digest string, body []byte, durable bool) error {
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
	if err == nil && durable {
		err = f.unsynced(digest, file.Datasync())
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.fs.Rename(path+".tmp", path)
	}
	if err != nil {
		_ = f.fs.Remove(path + ".tmp") // gives the room back; what stays is swept at the next start
		return fmt.Errorf("write blob: %w", err)
	}
	f.mark(digest)
	fp.Hit("raftstore/blob-written")
	return nil
}

// Sync implements Blobs.
func (f *blobFolder) Sync(digests []string) error {
	if _, err := f.settle(); err != nil {
		return err
	}
	synced := 0
	for _, digest := range digests {
		f.mu.Lock()
		dirty := f.dirty[digest]
		delete(f.dirty, digest) // one that is written again meanwhile is noted again
		f.mu.Unlock()
		if !dirty {
			continue
		}
		fp.Hit("raftstore/blob-sync")
		if err := f.unsynced(digest, f.syncOne(digest)); err != nil {
			return err
		}
		synced++
	}
	if synced == 0 {
		return nil
	}
	return f.unsynced("", f.fs.SyncDir(f.dir))
}

// unsynced stops the member if the sync of a blob, or of the folder, failed. Where the disk is full, the blob waits for room again if it can
// still be read.
func (f *blobFolder) unsynced(digest string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("sync blob %s: %w", digest, err)
	if disk.NoSpace(err) && digest != "" {
		if body, readErr := f.Get(digest); readErr == nil {
			f.mu.Lock()
			f.waiting[digest] = body
			f.mu.Unlock()
			return f.waitingErr()
		}
	}
	if f.sick == nil {
		return err
	}
	return f.sick("make a blob durable", err)
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
	if f.waits(digest) != nil {
		return true
	}
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
	if f.waits(digest) != nil {
		return f.ring.Active(), nil // that it will be written with
	}
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
	if body := f.waits(digest); body != nil {
		return bytes.Clone(body), nil
	}
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
	delete(f.waiting, digest)
	f.mu.Unlock()
	fp.Hit("raftstore/blob-remove")
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
