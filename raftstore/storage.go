package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Storage is what a member keeps: log, vote, snapshots, blobs and identity. One Store uses it at a time.
type Storage struct {
	log      raft.LogStore
	stable   raft.StableStore
	snaps    raft.SnapshotStore
	blobs    Blobs
	identity identityStore
	// where names it in errors.
	where string
	close func() error
}

// MemoryStorage returns storage that lives as long as the value: a test closes a Store and opens another one on it, which is a
// restart. It is durable at once.
func MemoryStorage() *Storage {
	mem := raft.NewInmemStore()
	return &Storage{
		log: mem, stable: mem, snaps: raft.NewInmemSnapshotStore(), blobs: &memoryBlobs{m: map[string][]byte{}},
		identity: &memoryIdentity{}, where: "memory", close: func() error { return nil },
	}
}

// The names in a member's folder.
const (
	identityName = "raft.identity"
	logName      = "raft.db"
	blobsName    = "blobs"
)

// openFolder opens a member's folder. A new one is made only if fresh allows it.
func openFolder(dir string, fresh bool, log hclog.Logger) (*Storage, error) {
	if err := checkFolder(dir, fresh); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, filepath.Join(dir, blobsName)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the data folder: %w", err)
		}
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, logName),
		// Without a synced freelist a commit writes less; a map finds free pages faster. The timeout names a second process.
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: 2 * time.Second},
	})
	if err != nil {
		return nil, fmt.Errorf("open the log %s (is another server using this folder?): %w", filepath.Join(dir, logName), err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the snapshots in %s: %w", dir, err), bolt.Close())
	}
	return &Storage{
		log: bolt, stable: bolt, snaps: snaps, blobs: folder{filepath.Join(dir, blobsName)},
		identity: identityFile(filepath.Join(dir, identityName)), where: dir, close: bolt.Close,
	}, nil
}

// checkFolder refuses a folder that lost its log or its identity, before anything is written to it.
func checkFolder(dir string, fresh bool) error {
	_, idErr := os.Stat(filepath.Join(dir, identityName))
	_, logErr := os.Stat(filepath.Join(dir, logName))
	switch {
	case idErr == nil && logErr != nil:
		return fmt.Errorf("data folder %s: it has %s but no %s: its log was lost. %s", dir, identityName, logName, rejoin)
	case idErr != nil && logErr == nil && !fresh: // a first start that was killed leaves an empty log: identify looks into it
		return fmt.Errorf("data folder %s: it has %s but no %s. Restore the folder as a whole, or: %s", dir, logName, identityName, rejoin)
	case idErr != nil && !fresh:
		return fmt.Errorf("data folder %s: it holds no server, and neither a new cluster nor a join was asked for. If it was emptied: %s", dir, rejoin)
	}
	return nil
}

const rejoin = "Remove this server from the cluster, empty the folder, and join again: it gets a new server ID, for one that has forgotten its votes must not vote again under the old"

// durable wraps log and vote of a member: every entry gets a checksum on its way in that is checked on its way out (bbolt has none
// for data), the identity file follows, and the first write error stops the member: after a failed fsync nobody knows what
// is on the disk, and to try again would hide it.
type durable struct {
	raft.LogStore
	stable raft.StableStore
	ids    identityStore
	fail   func(error)

	saving sync.Mutex // of the identity: raft cuts the log in another goroutine than it writes
	mu     sync.Mutex
	id     Identity
	err    error
}

// identityStride is how many entries the identity file may lag behind: the file costs an fsync of its own.
const identityStride = 256

func (d *durable) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *durable) stop(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	d.mu.Lock()
	first := d.err == nil
	if first {
		d.err = err
	}
	d.mu.Unlock()
	if first {
		d.fail(err)
	}
	return err
}

// advance writes the identity after change has moved it.
func (d *durable) advance(change func(*Identity) bool) error {
	d.saving.Lock()
	defer d.saving.Unlock()
	d.mu.Lock()
	id := d.id
	moved := change(&id)
	if !moved {
		d.mu.Unlock()
		return nil
	}
	d.id = id
	d.mu.Unlock()
	if err := d.ids.save(id); err != nil {
		return d.stop("write the identity file", err)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (d *durable) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (d *durable) StoreLogs(logs []*raft.Log) error {
	if err := d.failed(); err != nil {
		return err
	}
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Extensions = binary.BigEndian.AppendUint32(append([]byte(nil), l.Extensions...), logChecksum(l))
		sealed[i] = &c
	}
	if err := d.LogStore.StoreLogs(sealed); err != nil {
		return d.stop("write the log", err)
	}
	last := logs[len(logs)-1]
	return d.advance(func(id *Identity) bool {
		if last.Term == id.LogTerm && last.Index < id.Index+identityStride {
			return false
		}
		id.LogTerm, id.Index = last.Term, last.Index
		return true
	})
}

// GetLog implements raft.LogStore.
func (d *durable) GetLog(index uint64, l *raft.Log) error {
	if err := d.LogStore.GetLog(index, l); err != nil {
		return err
	}
	n := len(l.Extensions) - 4
	if n < 0 {
		return d.stop("read the log", fmt.Errorf("%w: entry %d has none", errChecksum, index))
	}
	want := binary.BigEndian.Uint32(l.Extensions[n:])
	l.Extensions = l.Extensions[:n:n]
	if n == 0 {
		l.Extensions = nil
	}
	if have := logChecksum(l); want != have || l.Index != index {
		return d.stop("read the log", fmt.Errorf("%w: entry %d says %08x, its bytes make %08x: the disk has changed it", errChecksum, index, want, have))
	}
	return nil
}

// DeleteRange implements raft.LogStore. What is cut off at the end was never committed; the identity must not ask for it.
func (d *durable) DeleteRange(lo, hi uint64) error {
	if err := d.failed(); err != nil {
		return err
	}
	err := d.advance(func(id *Identity) bool {
		if id.Index < lo || id.Index > hi {
			return false
		}
		id.LogTerm, id.Index = 0, max(lo, 1)-1
		return true
	})
	if err != nil {
		return err
	}
	if err := d.LogStore.DeleteRange(lo, hi); err != nil {
		return d.stop("cut the log", err)
	}
	return nil
}

func logChecksum(l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Checksum(head[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, l.Extensions)
}

// keyTerm is the name under which raft keeps its current term.
const keyTerm = "CurrentTerm"

// Set implements raft.StableStore.
func (d *durable) Set(key, val []byte) error {
	if err := d.failed(); err != nil {
		return err
	}
	if err := d.stable.Set(key, val); err != nil {
		return d.stop("write the vote", err)
	}
	return nil
}

// Get implements raft.StableStore.
func (d *durable) Get(key []byte) ([]byte, error) { return d.stable.Get(key) }

// SetUint64 implements raft.StableStore.
func (d *durable) SetUint64(key []byte, val uint64) error {
	if err := d.failed(); err != nil {
		return err
	}
	if err := d.stable.SetUint64(key, val); err != nil {
		return d.stop("write the vote", err)
	}
	return d.advance(func(id *Identity) bool {
		if string(key) != keyTerm || val <= id.Term {
			return false
		}
		id.Term = val
		return true
	})
}

// GetUint64 implements raft.StableStore.
func (d *durable) GetUint64(key []byte) (uint64, error) { return d.stable.GetUint64(key) }
