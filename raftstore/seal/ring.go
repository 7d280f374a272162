package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"

	"reconcile/raftstore/disk"
)

// Overhead is how many bytes longer a sealed piece is: the key's ID, the nonce and the tag.
const Overhead = 4 + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

var (
	// ErrDamaged tells that the ring's file, or a sealed piece, is not what was written.
	ErrDamaged = errors.New("it was changed since it was encrypted, or belongs elsewhere")
	// ErrKey tells that the outer key is missing or another one than wrapped the ring.
	ErrKey = errors.New("the data of this server cannot be decrypted")
)

// Key is what may be told of a data key.
type Key struct {
	ID uint32 `json:"id"`
	// Made is when.
	Made time.Time `json:"made"`
	// By is the fingerprint of the outer key that wraps it.
	By string `json:"by"`
	// Until is the index of the last entry of the log that may be encrypted with it, once another key is active.
	Until uint64 `json:"until,omitempty"`
	// Wrapped is the key, encrypted.
	Wrapped []byte `json:"wrapped"`
}

// file is what the ring's file holds.
type file struct {
	Active   uint32 `json:"active"`
	Keys     []Key  `json:"keys"`
	Checksum string `json:"checksum"`
}

// Ring is the data keys of one member. Its methods may be called by many goroutines.
type Ring struct {
	fs     disk.FS
	path   string
	source Source

	mu     sync.RWMutex
	file   file
	raw    []byte
	active uint32
	aeads  map[uint32]cipher.AEAD
	plain  map[uint32][]byte
}

// Open reads the ring at path. With create it makes one if there is none, and the outer key too if the source can.
func Open(fsys disk.FS, path string, source Source, create bool) (*Ring, error) {
	r := &Ring{fs: fsys, path: path, source: source, aeads: map[uint32]cipher.AEAD{}, plain: map[uint32][]byte{}}
	raw, err := disk.ReadFile(fsys, path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && create:
		if _, err := source.Key(true); err != nil {
			return nil, err
		}
		_, err := r.Rotate(0)
		return r, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, path)
	case err != nil:
		return nil, err
	}
	return r, r.take(raw)
}

// take makes what the file holds the ring's state; keys that are known already are not unwrapped again.
func (r *Ring) take(raw []byte) error {
	f, err := decode(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	var outer []byte
	plain := map[uint32][]byte{}
	for _, k := range f.Keys {
		if p, ok := r.plain[k.ID]; ok {
			plain[k.ID] = p
			continue
		}
		if outer == nil {
			if outer, err = r.source.Key(false); err != nil {
				return fmt.Errorf("%w: %w", ErrKey, err)
			}
		}
		if by := fingerprint(outer); by != k.By {
			return fmt.Errorf("%w: %s needs the key with the fingerprint %s, and %s holds the one with %s: name the right one with --key-file or --key-command", ErrKey, r.path, k.By, r.source, by)
		}
		if plain[k.ID], err = unwrap(outer, k); err != nil {
			return fmt.Errorf("%s: key %d: %w", r.path, k.ID, err)
		}
	}
	if plain[f.Active] == nil {
		return fmt.Errorf("%s: %w: the active key %d is not in it", r.path, ErrDamaged, f.Active)
	}
	aeads := map[uint32]cipher.AEAD{}
	for id, key := range plain {
		if aeads[id], err = chacha20poly1305.NewX(key); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file, r.raw, r.active, r.plain, r.aeads = f, raw, f.Active, plain, aeads
	return nil
}

func decode(raw []byte) (file, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return file{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if want, err := encode(f); err != nil || !bytes.Equal(want, raw) {
		return file{}, fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	return f, nil
}

func encode(f file) ([]byte, error) {
	f.Checksum = ""
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	f.Checksum = fmt.Sprintf("crc32c:%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	b, err = json.MarshalIndent(f, "", "  ")
	return append(b, '\n'), err
}

func keyPlace(k Key) []byte { return binary.LittleEndian.AppendUint32([]byte("data key "), k.ID) }

func wrap(outer, key []byte, k Key) ([]byte, error) {
	a, err := chacha20poly1305.NewX(outer)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, a.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return a.Seal(nonce, nonce, key, keyPlace(k)), nil
}

func unwrap(outer []byte, k Key) ([]byte, error) {
	a, err := chacha20poly1305.NewX(outer)
	if err != nil {
		return nil, err
	}
	if len(k.Wrapped) < a.NonceSize() {
		return nil, ErrDamaged
	}
	key, err := a.Open(nil, k.Wrapped[:a.NonceSize()], k.Wrapped[a.NonceSize():], keyPlace(k))
	if err != nil {
		return nil, ErrDamaged
	}
	return key, nil
}

// Seal appends the encrypted plain to dst. place says where it belongs; Open asks for the same.
func (r *Ring) Seal(dst, plain, place []byte) []byte {
	r.mu.RLock()
	id, a := r.active, r.aeads[r.active]
	r.mu.RUnlock()
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:]) // never fails
	dst = binary.LittleEndian.AppendUint32(dst, id)
	dst = append(dst, nonce[:]...)
	return a.Seal(dst, nonce[:], plain, place)
}

// Open returns what Seal was given, in new memory. ErrDamaged if it is not what was sealed for the place.
func (r *Ring) Open(sealed, place []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrDamaged, len(sealed))
	}
	id := binary.LittleEndian.Uint32(sealed)
	r.mu.RLock()
	a := r.aeads[id]
	r.mu.RUnlock()
	if a == nil {
		return nil, fmt.Errorf("%w: it names the key %d, which the ring %s does not have", ErrDamaged, id, r.path)
	}
	const body = 4 + chacha20poly1305.NonceSizeX
	plain, err := a.Open(make([]byte, 0, len(sealed)-Overhead), sealed[4:body], sealed[body:], place)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// KeyOf is the ID of the key that a sealed piece was encrypted with.
func KeyOf(sealed []byte) uint32 {
	if len(sealed) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(sealed)
}

// Active is the ID of the key that Seal uses.
func (r *Ring) Active() uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.active
}

// Keys lists the data keys, the oldest first.
func (r *Ring) Keys() []Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append([]Key(nil), r.file.Keys...)
}

// Rotate adds a data key and makes it the active one. last is the index of the log's last entry, 0 if it is not known (Until is set
// later, by NoteUntil).
func (r *Ring) Rotate(last uint64) (uint32, error) {
	var id uint32
	err := r.change(func(f *file) error {
		outer, err := r.source.Key(false)
		if err != nil {
			return err
		}
		for i, k := range f.Keys {
			id = max(id, k.ID)
			if k.Until == 0 {
				f.Keys[i].Until = last
			}
			if by := fingerprint(outer); by != k.By {
				return fmt.Errorf("%w: %s is wrapped by the key with the fingerprint %s, and %s holds the one with %s", ErrKey, r.path, k.By, r.source, by)
			}
		}
		id++
		k := Key{ID: id, Made: time.Now().UTC().Truncate(time.Second), By: fingerprint(outer)}
		if k.Wrapped, err = wrap(outer, NewKey(), k); err != nil {
			return err
		}
		f.Keys, f.Active = append(f.Keys, k), id
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("rotate the data key: %w", err)
	}
	return id, nil
}

// NoteUntil notes for the keys that are not active any more which entry of the log was the last when this was seen.
func (r *Ring) NoteUntil(last uint64) error {
	return r.change(func(f *file) error {
		for i, k := range f.Keys {
			if k.ID != f.Active && k.Until == 0 {
				f.Keys[i].Until = last
			}
		}
		return nil
	})
}

// Retire forgets the keys for which unused holds and that are not active.
func (r *Ring) Retire(unused func(Key) bool) error {
	return r.change(func(f *file) error {
		var kept []Key
		for _, k := range f.Keys {
			if k.ID == f.Active || !unused(k) {
				kept = append(kept, k)
			}
		}
		f.Keys = kept
		return nil
	})
}

// Rewrap wraps all data keys by the outer key of another source, which is made if it can be. From the next start on the member needs it.
func (r *Ring) Rewrap(to Source) error {
	outer, err := to.Key(true)
	if err != nil {
		return err
	}
	err = r.change(func(f *file) error {
		for i, k := range f.Keys {
			k.By = fingerprint(outer)
			if k.Wrapped, err = wrap(outer, r.plain[k.ID], k); err != nil {
				return err
			}
			f.Keys[i] = k
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("wrap the data keys by %s: %w", to, err)
	}
	r.source = to
	return nil
}

// Reload takes over what another process has made of the ring's file; changed tells whether it had.
func (r *Ring) Reload() (changed bool, err error) {
	raw, err := disk.ReadFile(r.fs, r.path)
	if err != nil {
		return false, err
	}
	r.mu.RLock()
	same := bytes.Equal(raw, r.raw)
	r.mu.RUnlock()
	if same {
		return false, nil
	}
	return true, r.take(raw)
}

// change writes the ring's file anew, on what it holds now: the command line may change it while a server runs.
func (r *Ring) change(edit func(*file) error) error {
	lock, err := os.OpenFile(r.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	raw, err := disk.ReadFile(r.fs, r.path)
	if err == nil {
		err = r.take(raw)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.mu.RLock()
	f := file{Active: r.file.Active, Keys: append([]Key(nil), r.file.Keys...)}
	r.mu.RUnlock()
	if err := edit(&f); err != nil {
		return err
	}
	b, err := encode(f)
	if err != nil || bytes.Equal(b, raw) {
		return err
	}
	if err := disk.WriteFile(r.fs, r.path, b); err != nil {
		return err
	}
	return r.take(b)
}
