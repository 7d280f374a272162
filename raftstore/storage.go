package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
	"reconcile/raftstore/wal"
)

// Storage is what a member keeps: log, vote, snapshots, blobs and identity. One Store uses it at a time.
type Storage struct {
	log raft.LogStore
	// checked tells that the log verifies every entry itself.
	checked  bool
	stable   raft.StableStore
	snaps    raft.SnapshotStore
	blobs    Blobs
	identity identityStore
	mark     mark
	// ring holds the keys by which all is encrypted; nil for storage that is not.
	ring *seal.Ring
	// fresh is the identity that a new folder will have, but for the names of cluster and server.
	fresh Identity
	// begin makes what a new folder's identity will ask for; it comes before the identity is written.
	begin func() error
	// taken is called when a snapshot is durable; set by the Store.
	taken func(position) error
	// bring makes the blobs durable here that a snapshot from another member names, with their sizes, before it takes its place; set by the Store.
	bring func(named map[string]uint64, of *raft.SnapshotMeta) error
	// sick is called when something could not be made durable, with what; it stops the member and returns the error. Set by the Store.
	sick func(what string, err error) error
	// where names it in errors.
	where string
	close func() error
}

// MemoryStorage returns storage that lives as long as the value: a test closes a Store and opens another one on it, which is a
// restart. It is durable at once.
func MemoryStorage() *Storage {
	mem := raft.NewInmemStore()
	st := &Storage{
		log: memoryLog{mem}, stable: mem, blobs: &memoryBlobs{m: map[string][]byte{}},
		identity: &memoryIdentity{}, mark: noMark{}, begin: func() error { return nil }, where: "memory", close: func() error { return nil },
	}
	st.snaps = &memorySnaps{st: st}
	return st
}

// memoryLog is raft's log in memory, which believes that it reaches to the end of all numbers once something was deleted from it while it was empty.
type memoryLog struct{ *raft.InmemStore }

// DeleteRange implements raft.LogStore.
func (m memoryLog) DeleteRange(lo, hi uint64) error {
	first, err := m.FirstIndex()
	if err != nil || first == 0 || hi < first {
		return err
	}
	return m.InmemStore.DeleteRange(max(lo, first), hi)
}

// memorySnaps keeps the newest finished snapshot in memory, of which the storage is told as of those in files. raft's own shows one from its first byte on.
type memorySnaps struct {
	st *Storage

	mu     sync.Mutex
	newest *memorySink
}

// Create implements raft.SnapshotStore.
func (m *memorySnaps) Create(v raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &memorySink{in: m, meta: raft.SnapshotMeta{Version: v, ID: snapName(term, index, time.Now()), Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex}}, nil
}

// List implements raft.SnapshotStore.
func (m *memorySnaps) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil {
		return nil, nil
	}
	meta := m.newest.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open implements raft.SnapshotStore.
func (m *memorySnaps) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil || m.newest.meta.ID != id {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, fs.ErrNotExist)
	}
	meta := m.newest.meta
	return &meta, io.NopCloser(bytes.NewReader(m.newest.body)), nil
}

// memorySink is a snapshot that is being written, and nothing is written to it after it is finished.
type memorySink struct {
	in   *memorySnaps
	meta raft.SnapshotMeta
	body []byte
}

// ID implements raft.SnapshotSink.
func (k *memorySink) ID() string { return k.meta.ID }

// Write implements io.Writer.
func (k *memorySink) Write(p []byte) (int, error) {
	k.body = append(k.body, p...)
	return len(p), nil
}

// Close implements raft.SnapshotSink. An older one than the newest takes no place.
func (k *memorySink) Close() error {
	k.in.mu.Lock()
	k.meta.Size = int64(len(k.body))
	at := position{k.meta.Term, k.meta.Index}
	if n := k.in.newest; n == nil || !at.before(position{n.meta.Term, n.meta.Index}) {
		k.in.newest = k
	}
	k.in.mu.Unlock()
	return k.in.st.taken(at)
}

// Cancel implements raft.SnapshotSink.
func (k *memorySink) Cancel() error { return nil }

// The names in a member's folder.
const (
	identityName = "raft.identity"
	stableName   = "raft.db" // term and vote, and the log if its kind is LogBoltDB
	markName     = "raft.mark"
	walName      = "wal"
	snapsName    = "snapshots"
	blobsName    = "blobs"
	ringName     = "keys.json"
)

// The kinds of log that a folder can have.
const (
	// LogWAL is our own: segment files, one fdatasync an append (package wal).
	LogWAL = "wal"
	// LogBoltDB is raft-boltdb: two fdatasyncs an append, one after the other.
	LogBoltDB = "boltdb"
)

// folder is a member's folder while it is opened.
type folder struct {
	dir    string
	fs     disk.FS
	logger *slog.Logger
	key    seal.Source
	id     Identity
	known  bool
	bolt   *raftboltdb.BoltStore
	st     *Storage
}

// openFolder opens a member's folder. A new one is made only if the configuration asks for a new member.
func openFolder(cfg *Config) (*Storage, error) {
	f := &folder{dir: cfg.Dir, fs: cfg.FS, logger: cfg.Logger, key: cfg.Key}
	f.st = &Storage{identity: identityFile{f.fs, f.path(identityName)}, where: f.dir, close: f.close, begin: func() error { return nil }}
	if err := f.check(cfg.Bootstrap || cfg.Join); err != nil {
		return nil, err
	}
	if err := poisoned(f.fs, f.dir); err != nil {
		return nil, err
	}
	if f.known && f.id.Log == "" {
		f.id.Log = LogBoltDB
	}
	if !f.known {
		f.id = Identity{Folder: orRandom(""), Log: cfg.Log, Encrypted: cfg.Key != nil}
	}
	if f.id.Log != cfg.Log {
		f.logger.Info("the data folder keeps the kind of log that it was made with", "folder", f.dir, "log", f.id.Log, "configured", cfg.Log)
	}
	if !f.id.Encrypted && cfg.Key != nil {
		f.logger.Warn("the data folder was made without encryption and stays so; to encrypt it, empty it and join again", "folder", f.dir)
	}
	f.st.fresh = f.id
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f.st, nil
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *folder) has(name string) bool {
	_, err := f.fs.Size(f.path(name))
	return err == nil
}

// check refuses a folder that lost its log or its identity, before anything is written to it.
func (f *folder) check(fresh bool) (err error) {
	if f.id, f.known, err = f.st.identity.load(); err != nil {
		return err
	}
	has := f.has(stableName)
	for _, part := range []string{walName, snapsName} {
		if names, err := f.fs.List(f.path(part)); !f.known && err == nil && len(names) > 0 {
			return fmt.Errorf("data folder %s: %w", f.dir, damaged(fmt.Errorf("it has files in %s but no %s; restore the folder as a whole, or begin anew", part, identityName)))
		}
	}
	switch {
	case f.known && !has:
		return fmt.Errorf("data folder %s: %w", f.dir, damaged(fmt.Errorf("it has %s but no %s: its log was lost", identityName, stableName)))
	case !f.known && has && !fresh: // a first start that was killed leaves an empty log: identify looks into it
		return fmt.Errorf("data folder %s: %w", f.dir, damaged(fmt.Errorf("it has %s but no %s; restore the folder as a whole, or begin anew", stableName, identityName)))
	case !f.known && !fresh:
		return fmt.Errorf("data folder %s: %w. If it was emptied: %s", f.dir, ErrNoServer, rejoin)
	}
	return nil
}

// open opens the parts.
func (f *folder) open() error {
	above := f.above()
	for _, d := range []string{f.dir, f.path(blobsName), f.path(snapsName)} {
		if err := f.fs.MkdirAll(d); err != nil {
			return fmt.Errorf("make the data folder: %w", err)
		}
	}
	if err := f.syncAbove(above); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	if err := f.openRing(); err != nil {
		return err
	}
	if err := f.openBolt(); err != nil {
		return err
	}
	f.st.stable, f.st.log, f.st.blobs = f.bolt, guardedLog{f.bolt}, newBlobFolder(f.fs, f.path(blobsName), f.st.ring)
	f.st.blobs.(*blobFolder).sick = f.sick
	if f.id.Log == LogWAL {
		w, err := wal.Open(wal.Options{Dir: f.path(walName), FS: f.fs, ID: nameHash(f.id.Folder), Logger: f.logger})
		if err != nil {
			return damaged(err)
		}
		f.st.log, f.st.checked = w, true
	}
	f.openMark()
	if err := f.sweep(); err != nil {
		return fmt.Errorf("sweep the data folder: %w", err)
	}
	return f.openSnapshots()
}

// sweep removes what a crash left half written. Whole files of blobs that nothing names go when the next snapshot is finished: the log, which
// is being read again, may name them.
func (f *folder) sweep() error {
	var half []string
	for _, name := range []string{identityName, markName, ringName} {
		if f.has(name + ".tmp") {
			half = append(half, name+".tmp")
		}
	}
	tops, err := f.fs.List(f.dir)
	if err != nil {
		return err
	}
	for _, name := range tops {
		if strings.HasSuffix(name, scratchSuffix) {
			half = append(half, name)
		}
	}
	names, err := f.fs.List(f.path(blobsName))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			half = append(half, filepath.Join(blobsName, name))
		}
	}
	for _, name := range half {
		if err := f.fs.Remove(f.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// above are the folders in which the data folder's name, and those of the folders above it that are not there yet, are to be made durable; none once
// the member has its identity. Its own parent always is: the process may have been killed right after it had made the folder.
func (f *folder) above() (dirs []string) {
	if f.known {
		return nil
	}
	for d := filepath.Clean(f.dir); d != filepath.Dir(d); {
		d = filepath.Dir(d)
		dirs = append(dirs, d)
		if _, err := f.fs.Size(d); err == nil {
			break
		}
	}
	return dirs
}

// syncAbove makes the data folder's name durable: a power cut must not take it away whole after it acknowledged writes. A parent that
// this user may not read is another's, who made the folder.
func (f *folder) syncAbove(dirs []string) error {
	for _, d := range dirs {
		if err := f.fs.SyncDir(d); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// openRing opens the keys of an encrypted folder.
func (f *folder) openRing() (err error) {
	if !f.id.Encrypted {
		return nil
	}
	if f.key == nil {
		return fmt.Errorf("%w: the data folder %s is encrypted; name its key with --key-file or --key-command", seal.ErrKey, f.dir)
	}
	if f.st.ring, err = seal.Open(f.fs, f.path(ringName), f.key, !f.known); errors.Is(err, seal.ErrDamaged) {
		return damaged(err)
	}
	return err
}

func (f *folder) openBolt() error {
	path := f.path(stableName)
	err := guard(func() (err error) {
		f.bolt, err = raftboltdb.New(raftboltdb.Options{
			Path: path,
			// Without a synced freelist bbolt looks for free pages in a goroutine of its own at each start, and a damaged page ends the
			// process there. A map finds free pages faster. The timeout names a second process.
			BoltOptions: &bbolt.Options{FreelistType: bbolt.FreelistMapType, Timeout: 2 * time.Second},
		})
		return err
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("open %s: another server is using this folder: %w", path, err)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("open %s: %w", path, err)
	}
	return fmt.Errorf("open %s: %w", path, damaged(err))
}

// openMark has the mark follow the log; a folder from before there was one gets it at its first start.
func (f *folder) openMark() {
	if f.known && f.id.Folder == "" {
		f.st.mark = noMark{}
		return
	}
	m := &markFile{fs: f.fs, path: f.path(markName), folder: nameHash(f.id.Folder)}
	f.st.mark = m
	if !f.known {
		f.st.begin = func() error { return m.create(position{}) }
	}
}

// openSnapshots opens the snapshots; a folder from before format 2 keeps raft's own.
func (f *folder) openSnapshots() error {
	if f.known && f.id.Folder == "" {
		snaps, err := raft.NewFileSnapshotStoreWithLogger(f.dir, 2, raftLogger(f.logger))
		if err != nil {
			return fmt.Errorf("open the snapshots in %s: %w", f.dir, err)
		}
		f.st.snaps = snaps
		return nil
	}
	s := &snapFolder{fs: f.fs, dir: f.path(snapsName), folder: f.id.Folder, ring: f.st.ring, log: f.logger, taken: func(p position) error { return f.st.taken(p) }, sick: f.sick,
		bring: func(named map[string]uint64, of *raft.SnapshotMeta) error { return f.st.bring(named, of) }}
	f.st.snaps = s
	if err := s.sweep(); err != nil {
		return fmt.Errorf("open the snapshots in %s: %w", s.dir, err)
	}
	return nil
}

func (f *folder) sick(what string, err error) error { return f.st.sick(what, err) }

func (f *folder) close() error {
	var errs []error
	if f.st.mark != nil {
		errs = append(errs, f.st.mark.close())
	}
	if w, ok := f.st.log.(*wal.Log); ok {
		errs = append(errs, w.Close())
	}
	if f.bolt != nil {
		errs = append(errs, guard(f.bolt.Close))
	}
	return errors.Join(errs...)
}

// nameHash is a folder's name as the files with a fixed layout carry it; 0 for none.
func nameHash(name string) uint64 {
	if name == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// rejoin is what to do with a folder that cannot be trusted.
const rejoin = "Empty the folder and join again through another server of the cluster (--join): the server comes back under a new ID, and without a vote until it has caught up, " +
	"for one that has forgotten its votes must not vote under the old"
