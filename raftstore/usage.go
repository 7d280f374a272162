package raftstore

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/wal"
)

// Usage is how many bytes a member's files take on disk.
type Usage struct {
	Log       int64 `json:"log"`
	Snapshots int64 `json:"snapshots"`
	Blobs     int64 `json:"blobs"`
}

// Disk tells how many bytes this member's files take; all 0 for storage in memory. It reads the folder of blobs.
func (s *Store) Disk() Usage {
	var u Usage
	if blobs, ok := s.storage.blobs.(*blobFolder); ok {
		u.Blobs = blobs.size()
	}
	if snaps, ok := s.storage.snaps.(*snapFolder); ok {
		u.Snapshots = (&blobFolder{fs: snaps.fs, dir: snaps.dir}).size()
	}
	u.Log = s.logBytes()
	return u
}

func (s *Store) logBytes() int64 {
	if w, ok := s.storage.log.(*wal.Log); ok {
		return w.Size()
	}
	size, err := disk.OS{}.Size(s.storage.where + "/" + stableName)
	if err != nil {
		return 0
	}
	return size
}

// limitEvery is how often the size of the log is looked at.
const limitEvery = 2 * time.Second

// limitLog takes a snapshot when the log has more than LogBytes, and lets raft keep no more entries behind it than half of that holds.
func (s *Store) limitLog() {
	s.every(limitEvery, func(time.Time) {
		if err := s.limitOnce(); err != nil {
			s.cfg.Logger.Warn("the log takes more room than it should, and could not be cut; the next look tries again", "bytes", s.logBytes(), "error", err)
		}
	})
}

func (s *Store) limitOnce() error {
	s.limiting.Lock() // another one would give raft its trail back before this one's snapshot has cut the log
	defer s.limiting.Unlock()
	w, ok := s.storage.log.(*wal.Log)
	if !ok {
		return nil // bbolt's file never shrinks
	}
	size := w.Size()
	if size <= s.cfg.LogBytes {
		return nil
	}
	if _, ok := s.held(); ok {
		return nil // a snapshot would not cut it
	}
	first, err := s.storage.log.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.storage.log.LastIndex()
	if err != nil || last <= first {
		return err
	}
	each := max(uint64(size)/(last-first+1), 1)
	keep := min(uint64(s.cfg.LogBytes)/2/each, s.cfg.TrailingEntries)
	conf := s.raft.ReloadableConfig()
	if err := s.reload(conf, keep); err != nil {
		return err
	}
	return errors.Join(s.Snapshot(), s.reload(conf, s.cfg.TrailingEntries))
}

// held tells from which entry on the log must stay for a member that is taking over a snapshot of this leader's. A log that has twice the room that it may
// have is cut even so.
func (s *Store) held() (index uint64, ok bool) {
	if s.logBytes() > 2*s.cfg.LogBytes {
		return 0, false
	}
	return s.holds.first()
}

func (s *Store) reload(conf raft.ReloadableConfig, trailing uint64) error {
	conf.TrailingLogs = trailing
	return s.raft.ReloadConfig(conf)
}
