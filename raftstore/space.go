package raftstore

import (
	"errors"
	"fmt"
	"time"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/wal"
)

// reserve is the room on the disk that staged blobs must leave to all else: log, vote, identity and snapshots. On a disk so small that it
// would be over a twentieth, it is that.
const reserve = 64 << 20

// roomFor is nil if the data folder's disk has room for n more bytes above the reserve.
func (s *Store) roomFor(n uint64) error {
	if s.cfg.Storage != nil {
		return nil // in memory
	}
	total, free, err := s.cfg.FS.Space(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("look for free space: %w", err)
	}
	if keep := min(reserve, total/20); free < keep+n {
		return fmt.Errorf("%w: the disk of %s has %d MiB free, and %d MiB are needed (%d MiB of them stay in reserve). Free some, or give the folder a larger disk",
			ErrNoSpace, s.cfg.Dir, free>>20, (keep+n)>>20, keep>>20)
	}
	return nil
}

// Space is nil if this member's disk has room above the reserve and nothing waits for room; else ErrNoSpace with what is wrong and what to
// do. It reads the file system's figures.
func (s *Store) Space() error {
	err := s.roomFor(0)
	if b, ok := s.storage.blobs.(*blobFolder); ok {
		err = errors.Join(err, b.waitingErr())
	}
	return err
}

// noSpace tells whether an error is that of a full disk.
func noSpace(err error) bool { return disk.NoSpace(err) || errors.Is(err, wal.ErrNoSpace) }

// settleEvery is how often blobs that wait for room are tried again.
const settleEvery = 5 * time.Second

// settleBlobs writes the blobs that found no room, when there is some.
func (s *Store) settleBlobs() {
	b, ok := s.storage.blobs.(*blobFolder)
	if !ok {
		return
	}
	s.every(settleEvery, func(time.Time) {
		if n, err := b.settle(); err != nil {
			s.cfg.Logger.Warn("blobs wait in memory for room on the disk", "error", err)
		} else if n > 0 {
			s.cfg.Logger.Info("the blobs that waited for room on the disk are written", "blobs", n)
		}
	})
}
