package raftstore

import (
	"io/fs"
	"path/filepath"
)

// Stats are figures of a member, for its operators.
type Stats struct {
	// LastIndex is the last index of raft's log here, AppliedIndex that up to which the state holds it.
	LastIndex, AppliedIndex uint64
	// DiskBytes is the size of the member's folder; 0 for a store in memory.
	DiskBytes int64
}

// Stats reads the sizes of the files of the member's folder.
func (s *Store) Stats() Stats {
	st := Stats{LastIndex: s.raft.LastIndex(), AppliedIndex: s.fsm.appliedIndex()}
	if s.cfg.Dir == "" {
		return st
	}
	// A file that goes away meanwhile is no fault: snapshots and segments do.
	_ = filepath.WalkDir(s.cfg.Dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			st.DiskBytes += info.Size()
		}
		return nil
	})
	return st
}

func (f *fsm) appliedIndex() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}
