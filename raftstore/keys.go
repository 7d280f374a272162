package raftstore

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/seal"
	"reconcile/raftstore/wal"
)

// ringEvery is how often the key ring's file is looked at: the command line changes it while the member runs.
const ringEvery = 2 * time.Second

// errPlain tells that a folder is not encrypted.
var errPlain = errors.New("the data folder is not encrypted")

// RotateKey encrypts what is written from now on with a new data key, and what is there too: blobs and snapshot at once, the log as it is
// cut at its front. Nothing stops meanwhile. The old key is forgotten when nothing uses it any more.
func (s *Store) RotateKey() error {
	if s.storage.ring == nil {
		return fmt.Errorf("rotate the data key: %w", errPlain)
	}
	if _, err := s.storage.ring.Rotate(0); err != nil {
		return err
	}
	return s.tendKeys()
}

// Keys lists the data keys that this member's files are encrypted with; none for a folder that is not encrypted.
func (s *Store) Keys() []seal.Key {
	if s.storage.ring == nil {
		return nil
	}
	return s.storage.ring.Keys()
}

// keepKeys follows the ring's file, and encrypts anew what an old key encrypts.
func (s *Store) keepKeys() {
	told := ""
	s.every(ringEvery, func(time.Time) {
		_, err := s.storage.ring.Reload()
		if err == nil && len(s.storage.ring.Keys()) > 1 {
			err = s.tendKeys()
		}
		now := ""
		if err != nil {
			now = err.Error()
		}
		if now != told && err != nil {
			s.cfg.Logger.Error("the data keys are not in order; this member goes on with those that it has", "error", err)
		}
		told = now
	})
}

// tendKeys encrypts blobs and snapshot with the active key, and forgets the keys that nothing uses any more.
func (s *Store) tendKeys() error {
	s.tending.Lock()
	defer s.tending.Unlock()
	ring := s.storage.ring
	// Entries that are being written now may still use the old key: the next look finds them in the log.
	last, err := s.storage.log.LastIndex()
	if err == nil {
		err = ring.NoteUntil(max(last, 1) + identityStride)
	}
	if err != nil {
		return err
	}
	if snaps, ok := s.storage.snaps.(*snapFolder); ok {
		if err := snaps.reseal(); err != nil {
			return fmt.Errorf("encrypt the snapshot anew: %w", err)
		}
	}
	blobs, ok := s.storage.blobs.(*blobFolder)
	if !ok {
		return nil
	}
	if err := blobs.reseal(); err != nil {
		return fmt.Errorf("encrypt the blobs anew: %w", err)
	}
	first, err := s.heldFrom()
	if err != nil {
		return err
	}
	return ring.Retire(func(k seal.Key) bool { return k.Until > 0 && k.Until < first })
}

// heldFrom is the first entry that the log's files hold, deleted or not.
func (s *Store) heldFrom() (uint64, error) {
	if w, ok := s.storage.log.(*wal.Log); ok {
		return w.Held(), nil
	}
	return s.storage.log.FirstIndex()
}

// reseal writes the newest snapshot anew if another key than the active one encrypts it.
func (s *snapFolder) reseal() error {
	if s.ring == nil {
		return nil
	}
	ids, err := s.ids()
	if err != nil || len(ids) == 0 {
		return err
	}
	meta, r, err := s.open(ids[0])
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read from
	if key, err := r.key(); err != nil || key == s.ring.Active() {
		return err
	}
	next := snapHead{Folder: s.folder, Sealed: seal.Overhead, Meta: raft.SnapshotMeta{
		Version: meta.Version, ID: snapName(meta.Term, meta.Index, time.Now()), Index: meta.Index, Term: meta.Term,
		Configuration: meta.Configuration, ConfigurationIndex: meta.ConfigurationIndex,
	}}
	k, err := s.begin(next)
	if err != nil {
		return err
	}
	if _, err := io.Copy(k, r); err != nil {
		return errors.Join(err, k.Cancel())
	}
	return k.Close()
}

// reseal writes the blobs anew that another key than the active one encrypts.
func (f *blobFolder) reseal() error {
	digests, err := f.List()
	if err != nil || f.ring == nil {
		return err
	}
	for _, digest := range digests {
		if err := f.resealOne(digest); err != nil && !errors.Is(err, ErrNoBlob) {
			return err
		}
	}
	return f.unsynced("", f.fs.SyncDir(f.dir)) // before the old key is forgotten
}

func (f *blobFolder) resealOne(digest string) error {
	key, err := f.keyOf(digest)
	if err != nil || key == f.ring.Active() {
		return err
	}
	body, err := f.Get(digest)
	if err != nil {
		return err
	}
	return f.write(digest, body, true)
}
