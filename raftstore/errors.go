package raftstore

import (
	"errors"
	"fmt"
)

// The errors that callers test for. Each is wrapped with what was being done.
var (
	// ErrNotLeader tells that this member does not lead and that the call had no effect. Ask the leader.
	ErrNotLeader = errors.New("this server is not the leader")
	// ErrUnknown tells that the outcome of a proposal is not known: it may be committed, now or later. Outcome answers after a Barrier.
	ErrUnknown = errors.New("the outcome of the proposal is unknown")
	// ErrRefused tells that the entry was committed and refused by every member, so that nothing changed: its base revision was
	// not the store's, or a blob that it names is not complete.
	ErrRefused = errors.New("the entry was refused")
	// ErrCompacted tells that the history no longer reaches back to the wanted revision. List again and watch from there.
	ErrCompacted = errors.New("the revision has been compacted")
	// ErrFuture tells that a revision is greater than the newest that the member has applied.
	ErrFuture = errors.New("the revision is in the future")
	// ErrStopped tells that the member has stopped, by Close or by a fault that Run returns.
	ErrStopped = errors.New("the store has stopped")
	// ErrDamaged tells that the disk does not hold what was written to it: the error around it names the file and what to do.
	ErrDamaged = errors.New("the data folder is damaged")
	// ErrNoServer tells that Open found no member in the data folder and was not told to make one.
	ErrNoServer = errors.New("it holds no server, and neither a new cluster nor a join was asked for")
	// ErrNoLease tells that there is no such lease, or that it has run out.
	ErrNoLease = errors.New("no such lease")
	// ErrNoBlob tells that a digest has no complete blob on this member.
	ErrNoBlob = errors.New("no such blob")
	// ErrNoSpace tells that the disk of the data folder has too little room; nothing was written. The error around it says what is free and
	// what is needed.
	ErrNoSpace = errors.New("the disk has too little space")
	// ErrTooLarge tells that an entry is over MaxEntry; what is larger goes through StageBlob.
	ErrTooLarge = errors.New("the entry is too large")
)

// damaged says of a file that it is not what was written, and what to do.
func damaged(err error) error { return fmt.Errorf("%w: %w. %s", ErrDamaged, err, rejoin) }
