package raftstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// identify takes the identity from the folder, or makes one for a folder that was never used, and refuses a folder that does not reach
// as far as it once did. exists tells that it holds a member's state.
func (s *Store) identify() (exists bool, err error) {
	st := s.storage
	id, known, err := st.identity.load()
	if err != nil {
		return false, err
	}
	vote, err := openBallot(st.stable, id.Votes > 0)
	if err != nil {
		return false, err
	}
	if exists, err = raft.HasExistingState(st.log, vote, st.snaps); err != nil {
		return false, fmt.Errorf("look for an earlier state: %w", err)
	}
	if !known {
		if id, err = s.newIdentity(exists); err != nil {
			return exists, err
		}
	}
	if s.cfg.ServerID != "" && s.cfg.ServerID != id.ServerID {
		return exists, fmt.Errorf("it belongs to server %q, not to %q: give each server a folder of its own", id.ServerID, s.cfg.ServerID)
	}
	if s.cfg.ClusterID != "" && s.cfg.ClusterID != id.ClusterID {
		return exists, fmt.Errorf("it belongs to cluster %q, not to %q", id.ClusterID, s.cfg.ClusterID)
	}
	s.id = id
	s.disk = &durable{LogStore: st.log, checked: st.checked, ring: st.ring, stable: vote, ids: st.identity, mark: st.mark, id: id, fail: s.stopOn, slow: make(chan time.Duration, 1)}
	st.taken, st.sick = s.disk.snapshotted, s.disk.stop
	return exists, s.checkReached()
}

// newIdentity names a member whose folder was never used.
func (s *Store) newIdentity(exists bool) (Identity, error) {
	if !exists && !s.cfg.Bootstrap && !s.cfg.Join {
		return Identity{}, fmt.Errorf("%w. If it was emptied: %s", ErrNoServer, rejoin)
	}
	if exists {
		return Identity{}, damaged(fmt.Errorf("it has a log but no %s; restore the folder as a whole, or begin anew", identityName))
	}
	id := s.storage.fresh
	id.ClusterID, id.ServerID = orRandom(s.cfg.ClusterID), orRandom(s.cfg.ServerID)
	if err := s.storage.begin(); err != nil {
		return Identity{}, err
	}
	return id, s.storage.identity.save(id)
}

// checkReached refuses a folder whose log, snapshots or vote end before the place that they once reached, or whose log begins behind
// the end of the newest snapshot.
func (s *Store) checkReached() error {
	term, err := s.disk.stable.GetUint64([]byte(keyTerm))
	if err != nil && s.id.Term > 0 {
		term = 0 // both stores answer "not found" with an error
	}
	snaps, err := s.storage.snaps.List()
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	for _, m := range snaps {
		if p := (position{m.Term, m.Index}); s.disk.snap.before(p) {
			s.disk.snap = p
		}
	}
	first, err1 := s.storage.log.FirstIndex()
	last, err2 := s.storage.log.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("read the ends of the log: %w", err)
	}
	if first > s.disk.snap.index+1 {
		return damaged(fmt.Errorf("the log begins at entry %d, and the newest snapshot ends at %d: a snapshot or a file of the log is missing", first, s.disk.snap.index))
	}
	if last, err = s.dropLost(first, last); err != nil {
		return err
	}
	s.disk.last = s.disk.snap
	if last > 0 {
		var l raft.Log
		if err := s.disk.GetLog(last, &l); err != nil {
			return fmt.Errorf("read the end of the log: %w", err)
		}
		if p := (position{l.Term, l.Index}); s.disk.last.before(p) {
			s.disk.last = p
		}
	}
	marked, err := s.storage.mark.load()
	if err != nil {
		return err
	}
	if err := s.id.reached(term, s.disk.stable.count(), s.disk.last, marked); err != nil {
		return damaged(err)
	}
	return nil
}

// dropLost empties a log that does not agree with the newest snapshot at its end, and returns the end of what is left: the member was killed
// after it had taken a snapshot over and before it had emptied its log of entries that lost. raft would go by them in elections.
func (s *Store) dropLost(first, last uint64) (uint64, error) {
	snap := s.disk.snap
	if snap.index == 0 || last < snap.index || last == 0 {
		return last, nil // raft itself begins anew behind the snapshot
	}
	at := max(first, snap.index)
	var l raft.Log
	if err := s.disk.GetLog(at, &l); err != nil {
		return 0, fmt.Errorf("read the log at the end of the snapshot: %w", err)
	}
	if at == snap.index && l.Term == snap.term || at > snap.index && l.Term >= snap.term {
		return last, nil
	}
	s.cfg.Logger.Info("the log holds entries that a snapshot has taken the place of; they are removed", "first", first, "last", last, "snapshot", snap.index)
	if err := s.storage.log.DeleteRange(first, last); err != nil {
		return 0, fmt.Errorf("remove entries %d to %d of the log: %w", first, last, err)
	}
	return 0, nil
}
