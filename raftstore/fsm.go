package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/internal/fp"
)

// fsm is raft's state machine: it feeds the state with entries in raft's one goroutine, and hands out views to all others.
// After a fault it changes nothing any more: a member that cannot trust what it read must not go on.
type fsm struct {
	hist  *history
	blobs Blobs
	fail  func(error)
	// lessor, if set, hears of leases.
	lessor *Lessor
	// trace, if set, hears of entries.
	trace Trace

	mu      sync.Mutex
	st      *state
	cached  *View  // of st; nil after a change
	applied uint64 // index of the last entry that st holds
	// commands is an index up to which st holds every command: exactly the last one's if exact, else that of the snapshot which st was read
	// from. Other than applied it is the same on every member that has come as far: barriers and no-ops are seen by the leader alone.
	commands uint64
	exact    bool
	moved    chan struct{} // closed and replaced when applied or st changes
	failed   error
	// clock, if set, is the monotonic clock: what is noted by it is no part of the state.
	clock func() time.Time
	// told is when an entry that came since the start last told the time; old is the last index of the log at the start.
	told time.Time
	old  uint64
	// note, if set, notes a panic in the folder and says what to do.
	note func(poison) error
	// unrestored is why a snapshot was not taken over: raft does not hand it on at its start.
	unrestored error

	self      uint64
	pending   map[uint64][]Op // by nonce: own proposals' operations, for their decoded values
	snapshots int             // being written or taken over: blobs are not removed meanwhile
	doomed    []string
	held      map[string]bool // named by the newest durable snapshot
	heldRev   uint64          // its revision

	// fetch gets a blob that a snapshot names and this member lacks; nil is the newest finished snapshot.
	fetch func(digest string, of *raft.SnapshotMeta) ([]byte, error)
	// compacted holds a token when versions may be taken out of memory.
	compacted chan struct{}
}

func newFSM(st *state, hist *history, blobs Blobs, self uint64, fail func(error)) *fsm {
	f := &fsm{hist: hist, blobs: blobs, fail: fail, st: st, moved: make(chan struct{}), self: self, pending: map[uint64][]Op{}, held: map[string]bool{}, compacted: make(chan struct{}, 1)}
	hist.view = f.view
	return f
}

// Apply implements raft.FSM. It returns an Outcome, or an error if the member has stopped.
func (f *fsm) Apply(l *raft.Log) (answer any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return f.failed
	}
	defer func() {
		// The state may be half changed: nothing is applied to it any more.
		if p := recover(); p != nil {
			answer = f.failLocked(fmt.Errorf("apply entry %d of term %d: %w", l.Index, l.Term, f.caught(p, l.Index, l.Term)))
		}
	}()
	out, err := f.applyLocked(l)
	if err != nil {
		return f.failLocked(fmt.Errorf("apply entry %d of term %d: %w; this member stops, because to skip it would make it differ from the others", l.Index, l.Term, err))
	}
	f.commands, f.exact = l.Index, true
	f.advanceLocked(l.Index)
	return out
}

func (f *fsm) applyLocked(l *raft.Log) (Outcome, error) {
	e, err := decodeEntry(l.Data)
	if errors.Is(err, errMalformed) {
		return Outcome{First: f.st.rev, Last: f.st.rev, Refused: true, Reason: err.Error()}, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	if e.node == f.self {
		e.own = f.pending[e.Nonce]
	}
	f.cached = nil
	if e.Time != 0 && l.Index > f.old && f.clock != nil {
		f.told = f.clock()
	}
	taken := f.traceLocked(l.Index, e)
	out, fx, err := f.st.apply(e, position{term: l.Term, index: l.Index}, f.blobs.Get)
	if err != nil {
		return Outcome{}, err
	}
	if !out.Refused {
		taken()
	}
	for digest, body := range fx.store {
		if err := f.blobs.Put(digest, body); err != nil {
			return Outcome{}, err
		}
	}
	f.doomed = append(f.doomed, fx.remove...)
	f.sweepLocked()
	f.hist.publish(f.st.rev, fx.events)
	f.tellLessorLocked(fx)
	if fx.compact > 0 {
		// The events of that very revision stay: the history shows the state at it.
		f.hist.compact(fx.compact - 1)
		f.tellCompacted()
	}
	return out, nil
}

func (f *fsm) tellLessorLocked(fx effects) {
	if f.lessor == nil {
		return
	}
	// An entry that ends a lease and grants its ID again ends it first: the other way round it would be refused.
	for _, id := range fx.revoked {
		f.lessor.revoked(id)
	}
	for _, l := range fx.granted {
		if now, ok := f.st.leases.Get(l); ok && now.Granted == l.Granted {
			f.lessor.granted(l)
		}
	}
}

// sweepLocked removes the bytes of forgotten blobs that no snapshot names, be it finished or being written.
func (f *fsm) sweepLocked() {
	if f.snapshots > 0 {
		return
	}
	for _, digest := range f.doomed {
		if f.st.blobs[digest] != nil || f.held[digest] {
			continue // staged again meanwhile, or removed after the next snapshot
		}
		// A file that stays is harmless: the next snapshot sweeps the folder.
		_ = f.blobs.Remove(digest)
	}
	f.doomed = nil
}

func (f *fsm) failLocked(err error) error {
	f.failed = fmt.Errorf("%w: %w", ErrStopped, err)
	f.hist.close(f.failed)
	f.fail(err)
	return f.failed
}

func (f *fsm) advanceLocked(index uint64) {
	if index > f.applied {
		f.applied = index
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// raise notes that everything up to index has passed, although barriers and no-ops never reach Apply.
func (f *fsm) raise(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advanceLocked(index)
}

// StoreConfiguration implements raft.ConfigurationStore: changes of membership are entries too.
func (f *fsm) StoreConfiguration(index uint64, _ raft.Configuration) { f.raise(index) }

// view is the state after the last entry.
func (f *fsm) view() *View {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cached == nil {
		f.cached = f.st.view()
	}
	return f.cached
}

// now is the store's time, and whether it is that of now: of the last entry that told it and of what has passed since by this member's
// monotonic clock. Before the first one since the start it is only that of the last entry.
func (f *fsm) now() (at time.Time, live bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at = time.Unix(0, f.st.stamp).UTC()
	if f.told.IsZero() {
		return at, false
	}
	return at.Add(f.clock().Sub(f.told)), true
}

func (f *fsm) rev() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.st.rev
}

// wait blocks until ok holds for the applied index and revision.
func (f *fsm) wait(ctx context.Context, ok func(applied, rev uint64) bool) error {
	return f.waitLocked(ctx, func() bool { return ok(f.applied, f.st.rev) })
}

// waitLocked blocks until ok, which is called under the lock, holds.
func (f *fsm) waitLocked(ctx context.Context, ok func() bool) error {
	for {
		f.mu.Lock()
		done, moved, failed := ok(), f.moved, f.failed
		f.mu.Unlock()
		if failed != nil {
			return failed
		}
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop makes all waiters return.
func (f *fsm) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = ErrStopped
	}
	f.hist.close(f.failed)
	f.advanceLocked(0)
}

func (f *fsm) expect(nonce uint64, ops []Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[nonce] = ops
}

func (f *fsm) forget(nonce uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, nonce)
}

func (f *fsm) outcome(o origin) (Outcome, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, ok := f.st.outcomes[o]
	return out, ok
}

// fate is the outcome of an entry that was to end at the revision last; sure tells that one which is not found was never applied.
func (f *fsm) fate(o origin, last uint64) (out Outcome, found, sure bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, found = f.st.outcomes[o]
	return out, found, found || f.st.remembers(last)
}

// Snapshot implements raft.FSM: it freezes the state in constant time.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return nil, f.failed
	}
	f.snapshots++
	return &snapshot{st: f.st.freeze(), blobs: f.blobs, release: f.released}, nil
}

// released ends a snapshot of the state at rev. held are the blobs that it names if it is durable, nil if it is not. A newer one may have
// been installed meanwhile.
func (f *fsm) released(rev uint64, held []string) {
	files, err := f.blobs.List()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshots--
	if held != nil && rev >= f.heldRev {
		f.holdLocked(rev, held)
		if err == nil { // also what a crash left
			f.doomed = append(f.doomed, files...)
		}
	}
	f.sweepLocked()
	f.tellCompacted()
}

// holdLocked notes the blobs that the newest durable snapshot names: a restart needs their files, and so does a member that takes it over.
func (f *fsm) holdLocked(rev uint64, digests []string) {
	f.heldRev = rev
	f.held = make(map[string]bool, len(digests))
	for _, d := range digests {
		f.held[d] = true
	}
}

func (f *fsm) tellCompacted() {
	select {
	case f.compacted <- struct{}{}:
	default:
	}
}

// collectSlice is how many versions are taken out of memory while the state is locked: under a millisecond.
const collectSlice = 10_000

// collectVersions takes a slice of the versions out of memory that the history no longer shows, and tells whether there may be more. A
// snapshot that is being written needs them.
func (f *fsm) collectVersions() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.snapshots > 0 {
		return false
	}
	f.cached = nil
	return f.st.collect(collectSlice)
}

// Restore implements raft.FSM. The snapshot is read and checked wholly before it takes the place of the state.
func (f *fsm) Restore(rc io.ReadCloser) error {
	defer rc.Close()
	fp.Hit("raftstore/restore")
	// A snapshot of this member's own may be finished meanwhile, and must not sweep away the blobs that this one brings.
	f.mu.Lock()
	f.snapshots++
	f.mu.Unlock()
	defer f.released(0, nil)
	st, err := f.read(rc)
	fp.Hit("raftstore/restore-read")
	if err := f.replace(st, indexOf(rc), err); err != nil {
		return err
	}
	fp.Hit("raftstore/restored")
	if f.lessor != nil {
		f.lessor.restored()
	}
	return nil
}

// read makes a state of a snapshot, with its blobs.
func (f *fsm) read(r io.Reader) (st *state, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = f.caught(p, 0, 0)
		}
	}()
	if st, err = readSnapshot(r, newState(f.st.indexOf, f.st.packer), f.blobs); err != nil {
		return nil, err
	}
	return st, f.complete(st.named(), nil)
}

// bring gets the blobs that a snapshot from another member names and the folder lacks, before it takes the place of the one that is there: in place
// without them, it could not be read at the next start if nobody has them any more. They stay until it is restored, or another one is finished.
func (f *fsm) bring(named map[string]uint64, of *raft.SnapshotMeta) error {
	f.mu.Lock()
	f.snapshots++
	f.mu.Unlock()
	defer f.released(0, nil)
	if err := f.complete(named, of); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for digest := range named {
		f.held[digest] = true
	}
	return nil
}

// complete gets the blobs that a snapshot names, with their sizes, and the folder lacks, and makes them all durable.
func (f *fsm) complete(named map[string]uint64, of *raft.SnapshotMeta) error {
	whole := slices.Sorted(maps.Keys(named))
	for _, digest := range whole {
		if f.blobs.Has(digest, named[digest]) {
			continue
		}
		fp.Hit("raftstore/blob-fetch")
		body, err := f.fetch(digest, of)
		if err == nil {
			err = f.blobs.Put(digest, body)
		}
		if err != nil {
			return fmt.Errorf("blob %s, which the snapshot names: %w", digest, err)
		}
	}
	return f.blobs.Sync(whole)
}

// replace takes over what was read from a snapshot that ends at an index, or notes why it could not be read.
func (f *fsm) replace(st *state, index uint64, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.unrestored = fmt.Errorf("restore a snapshot: %w", err)
		return f.unrestored
	}
	if f.failed != nil {
		return f.failed
	}
	f.st, f.cached = st, nil
	f.holdLocked(st.rev, st.whole())
	f.hist.reset(st.rev)
	f.commands, f.exact = index, false
	f.advanceLocked(index)
	return nil
}
