package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/internal/fp"
	"reconcile/internal/mutant"
	"reconcile/raftstore/seal"
	"reconcile/raftstore/wal"
)

// durable wraps log and vote of a member: identity and mark follow what is written, entries of a log that has no checksums of its own
// get one, and the first write error stops the member: after a failed fsync nobody knows what is on the disk, and to try again
// would hide it.
type durable struct {
	raft.LogStore
	// checked tells that the log verifies every entry itself.
	checked bool
	// ring encrypts the entries; nil for none.
	ring   *seal.Ring
	stable *ballot
	ids    identityStore
	mark   mark
	fail   func(error)
	slow   chan time.Duration // told of writes that took too long
	hang   hang
	// held, if set, tells from which entry on the log must stay, besides what raft keeps.
	held func() (index uint64, ok bool)

	saving sync.Mutex // of the identity: raft cuts the log in another goroutine than it writes
	mu     sync.Mutex
	id     Identity
	last   position // of the log
	snap   position // of the newest snapshot
	ghosts uint64   // see ghost
	err    error
}

// ghostType is the type of entries that are made up for raft's follower (ghost). raft has none by it: such an entry is never sent (wire) and
// cannot be applied.
const ghostType raft.LogType = 0xee

// ghost is what raft's follower is told of an entry that it looks for in vain, where it goes on taking the old end of its log for the end after the
// log was cut there: it has installed a snapshot, or the disk was full when the entries were to be stored that take the place of what was
// cut. raft would refuse all that the leader sends until it is started again: for it does not find the entry at which the snapshot ends, nor
// those behind that it believes in. So the first is given with the snapshot's term, and the others, up to the old end (ghosts), with a term that
// none has, so that raft cuts them off. Until the next entry is stored.
func (d *durable) ghost(index uint64) *raft.Log {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case index == d.snap.index && index > 0:
		return &raft.Log{Index: index, Term: d.snap.term, Type: ghostType}
	case index > max(d.snap.index, d.last.index) && index <= d.ghosts:
		return &raft.Log{Index: index, Type: ghostType}
	}
	return nil
}

// identityStride is how many entries the identity file may lag behind: the file costs fsyncs of its own.
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

// advance writes the identity after change has moved it. On a full disk it may lag behind, for it asks for less than there is then, and the next
// change tries again; a step back must be on the disk, and is an error that stops nothing.
func (d *durable) advance(change func(*Identity) bool) error {
	d.saving.Lock()
	defer d.saving.Unlock()
	d.mu.Lock()
	was := d.id
	id := was
	moved := change(&id)
	if !moved {
		d.mu.Unlock()
		return nil
	}
	d.id = id
	d.mu.Unlock()
	fp.Hit("raftstore/identity")
	err := d.ids.save(id)
	if noSpace(err) {
		d.mu.Lock()
		d.id = was
		d.mu.Unlock()
		if id.end().before(was.end()) {
			return fmt.Errorf("write the identity file: %w: %w", wal.ErrNoSpace, err)
		}
		return nil
	}
	if err != nil {
		return d.stop("write the identity file", err)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (d *durable) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. A full disk is the one failure after which the member goes on: nothing was written.
func (d *durable) StoreLogs(logs []*raft.Log) error {
	if err := d.failed(); err != nil {
		return err
	}
	if err := d.bridge(logs[0].Index); errors.Is(err, wal.ErrNoSpace) {
		return err
	} else if err != nil {
		return d.stop("write the log", err)
	}
	fp.Hit("raftstore/log-write")
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = d.close(l)
	}
	if err := d.timed(func() error { return d.LogStore.StoreLogs(sealed) }); err != nil {
		if errors.Is(err, wal.ErrNoSpace) {
			return err
		}
		return d.stop("write the log", err)
	}
	end := logs[len(logs)-1]
	last := position{end.Term, end.Index}
	d.mu.Lock()
	d.last, d.ghosts = last, 0
	d.mu.Unlock()
	fp.Hit("raftstore/log-written")
	if err := d.mark.note(last); err != nil {
		return d.stop("write the mark", err)
	}
	return d.advance(func(id *Identity) bool {
		if last.term == id.LogTerm && last.index < id.Index+identityStride {
			return false
		}
		id.LogTerm, id.Index = last.term, last.index
		return true
	})
}

// IsMonotonic implements raft.MonotonicLogStore: our own log takes no gap. raft then empties it when it has installed a snapshot, and does so
// through its cache of entries; bridge works beneath that cache, which would go on handing out what is gone from the log. The others are
// emptied too: entries of a leader that lost must not stand where the snapshot ends.
func (d *durable) IsMonotonic() bool { return true }

// bridge lets a log without gaps begin anew behind a snapshot that was installed: what is before it is in the snapshot. raft has
// emptied the log by then, unless the member was killed in between or that failed; either way its cache holds nothing of it any more.
func (d *durable) bridge(index uint64) error {
	first, err1 := d.LogStore.FirstIndex()
	last, err2 := d.LogStore.LastIndex()
	d.mu.Lock()
	snap, ghosts := d.snap, d.ghosts
	d.mu.Unlock()
	if end := max(snap.index, last); ghosts > 0 && index > end+1 {
		return fmt.Errorf("entry %d would leave a hole behind entry %d", index, end)
	}
	if err := errors.Join(err1, err2); err != nil || !d.checked || last == 0 || index <= last+1 {
		return err
	}
	if snap.index+1 < index {
		return fmt.Errorf("entry %d would follow entry %d, and the newest snapshot holds entries up to %d", index, last, snap.index)
	}
	return d.LogStore.DeleteRange(first, last)
}

// GetLog implements raft.LogStore.
func (d *durable) GetLog(index uint64, l *raft.Log) error {
	err := d.LogStore.GetLog(index, l)
	if errors.Is(err, raft.ErrLogNotFound) {
		if !d.within(index) {
			if g := d.ghost(index); g != nil {
				*l = *g
				return nil
			}
			return err
		}
		// Looked for again: between the two answers the log may have been cut at its end and have grown.
		if err = d.LogStore.GetLog(index, l); errors.Is(err, raft.ErrLogNotFound) {
			err = fmt.Errorf("entry %d is missing in the middle of the log", index)
		}
	}
	if err == nil {
		err = d.open(index, l)
	}
	if err != nil {
		return d.stop("read the log", damaged(err))
	}
	return nil
}

// within tells whether the log says that it holds entry index. An entry before it or behind it is asked for in good faith.
func (d *durable) within(index uint64) bool {
	first, err1 := d.FirstIndex()
	last, err2 := d.LastIndex()
	return err1 == nil && err2 == nil && first > 0 && first <= index && index <= last
}

// close makes of an entry what is written of it: encrypted, and with a checksum if the log has none of its own.
func (d *durable) close(l *raft.Log) *raft.Log {
	if d.ring == nil && d.checked {
		return l
	}
	c := *l
	if d.ring != nil {
		c.Data = d.ring.Seal(make([]byte, 0, len(l.Data)+seal.Overhead), l.Data, entryPlace(l))
	}
	if !d.checked {
		c.Extensions = binary.BigEndian.AppendUint32(append([]byte(nil), l.Extensions...), logChecksum(&c))
	}
	return &c
}

// open undoes close.
func (d *durable) open(index uint64, l *raft.Log) error {
	if !d.checked {
		if err := verify(index, l); err != nil {
			return err
		}
	}
	if d.ring == nil {
		return nil
	}
	plain, err := d.ring.Open(l.Data, entryPlace(l))
	if err != nil {
		return fmt.Errorf("entry %d: %w", index, err)
	}
	if l.Data = plain; len(plain) == 0 {
		l.Data = nil
	}
	return nil
}

// entryPlace is what an encrypted entry is bound to.
func entryPlace(l *raft.Log) []byte {
	b := binary.BigEndian.AppendUint64([]byte("entry"), l.Index)
	return append(binary.BigEndian.AppendUint64(b, l.Term), byte(l.Type))
}

func verify(index uint64, l *raft.Log) error {
	n := len(l.Extensions) - 4
	if n < 0 {
		return fmt.Errorf("%w: entry %d has none", errChecksum, index)
	}
	want := binary.BigEndian.Uint32(l.Extensions[n:])
	l.Extensions = l.Extensions[:n:n]
	if n == 0 {
		l.Extensions = nil
	}
	if have := logChecksum(l); (want != have || l.Index != index) && !mutant.IgnoreChecksum {
		return fmt.Errorf("%w: entry %d says %08x, its bytes make %08x: the disk has changed it", errChecksum, index, want, have)
	}
	return nil
}

// DeleteRange implements raft.LogStore. What is cut off at the end was never committed, or is in a snapshot that was installed; identity
// and mark must not ask for it. A full disk leaves the log as it was, and raft tries again.
func (d *durable) DeleteRange(lo, hi uint64) error {
	if err := d.failed(); err != nil {
		return err
	}
	d.mu.Lock()
	cut := hi >= d.last.index && lo <= d.last.index
	d.mu.Unlock()
	if cut {
		if err := d.lower(lo); err != nil {
			return err
		}
	}
	if index, ok := d.mustKeep(); ok && !cut && hi >= index {
		if hi = index - 1; hi < lo {
			return nil
		}
	}
	fp.Hit("raftstore/log-cut")
	if err := d.LogStore.DeleteRange(lo, hi); errors.Is(err, wal.ErrNoSpace) {
		return err
	} else if err != nil {
		return d.stop("cut the log", err)
	}
	if cut {
		d.mu.Lock()
		d.ghosts = max(d.ghosts, hi)
		d.mu.Unlock()
	}
	return nil
}

func (d *durable) mustKeep() (index uint64, ok bool) {
	if d.held == nil {
		return 0, false
	}
	return d.held()
}

// lower moves mark and identity back to before the entry lo.
func (d *durable) lower(lo uint64) error {
	var before raft.Log
	var to position
	if err := d.GetLog(max(lo, 1)-1, &before); err == nil {
		to = position{before.Term, before.Index}
	} else if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	d.mu.Lock()
	if to.before(d.snap) {
		to = d.snap
	}
	d.last = to
	d.mu.Unlock()
	if err := d.mark.lower(to); err != nil {
		return d.stop("write the mark", err)
	}
	return d.advance(func(id *Identity) bool {
		if !to.before(id.end()) {
			return false
		}
		id.LogTerm, id.Index = to.term, to.index
		return true
	})
}

// snapshotted notes a new snapshot.
func (d *durable) snapshotted(p position) error {
	if err := d.failed(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.snap.before(p) { // a slow one may be finished after a newer one was installed
		d.snap = p
	}
	d.mu.Unlock()
	return d.advance(func(id *Identity) bool {
		if !id.end().before(p) {
			return false
		}
		id.LogTerm, id.Index = p.term, p.index
		return true
	})
}

// settle makes identity and mark exact, for a member that closes: from then on the loss of any entry is noticed.
func (d *durable) settle() error {
	last, ok := d.reach()
	if !ok {
		return nil // it has said why
	}
	return errors.Join(d.mark.sync(), d.advance(func(id *Identity) bool {
		if !id.end().before(last) {
			return false
		}
		id.LogTerm, id.Index = last.term, last.index
		return true
	}))
}

// reach is the end of the log, and whether the member goes on.
func (d *durable) reach() (position, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last, d.err == nil
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

// Set implements raft.StableStore.
func (d *durable) Set(key, val []byte) error {
	if err := d.failed(); err != nil {
		return err
	}
	if string(key) == keyTerm && len(val) == 8 {
		// Only raft's loop moves the term (wire), and never back: a member that did could take entries of a leader that it has voted out.
		if was, err := d.stable.GetUint64(key); err == nil && binary.BigEndian.Uint64(val) < was {
			return d.stop("write the term", fmt.Errorf("it would go back from %d to %d", was, binary.BigEndian.Uint64(val)))
		}
	}
	fp.Hit("raftstore/vote-write")
	if err := guard(func() error { return d.stable.Set(key, val) }); err != nil {
		return d.stop("write the vote", err)
	}
	fp.Hit("raftstore/vote-written")
	// raft writes the vote's term right before the candidate: one note for both.
	if string(key) == keyVoteTerm {
		return nil
	}
	return d.advance(func(id *Identity) bool {
		id.Votes = d.stable.count()
		if term, err := d.stable.GetUint64([]byte(keyTerm)); err == nil {
			id.Term = max(id.Term, term)
		}
		return true
	})
}

// Get implements raft.StableStore.
func (d *durable) Get(key []byte) ([]byte, error) { return d.stable.Get(key) }

// SetUint64 implements raft.StableStore.
func (d *durable) SetUint64(key []byte, val uint64) error {
	return d.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 implements raft.StableStore.
func (d *durable) GetUint64(key []byte) (uint64, error) { return d.stable.GetUint64(key) }
