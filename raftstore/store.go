package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Store is one member of the replicated store. Its methods may be called by many goroutines.
type Store struct {
	cfg     Config
	id      Identity
	storage *Storage
	raft    *raft.Raft
	fsm     *fsm
	hist    *history
	node    uint64
	packer  *packer
	disk    *durable
	tending sync.Mutex // of the data keys
	// limiting is held while the log is cut to its bound.
	limiting sync.Mutex
	nonce    atomic.Uint64

	lessor *Lessor
	leader leaderState
	read   readState
	stage  stageState

	confirmer *confirmer
	holds     holds

	fatal   chan struct{} // closed at the first fault
	failure error         // set before fatal is closed
	once    sync.Once
	stopped chan struct{} // closed by Close
	down    chan struct{} // closed when raft has shut down
	closing sync.Once
	closed  error
	wg      sync.WaitGroup
}

// Open starts a member on its folder. It returns when the folder is read and the log's entries that are known to be committed are on
// their way into the state; a member of a cluster catches up with the leader afterwards. Close must be called in the end.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.defaults()
	s := &Store{cfg: cfg, fatal: make(chan struct{}), stopped: make(chan struct{}), down: make(chan struct{})}
	s.storage = cfg.Storage
	if s.storage == nil {
		var err error
		if s.storage, err = openFolder(&cfg); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", s.storage.where, err), closeTransport(cfg.Transport), s.storage.close())
	}
	return s, nil
}

// start checks who this member is and begins raft.
func (s *Store) start() error {
	exists, err := s.identify()
	if err != nil {
		return err
	}
	disk := s.disk
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.id.ServerID))
	s.node = h.Sum64()
	s.nonce.Store(randomUint64() >> 1)
	s.hist = newHistory(s.cfg.HistoryEvents, s.cfg.HistoryBytes)
	s.packer = newPacker()
	s.fsm = newFSM(newState(s.cfg.Index, s.packer), s.hist, s.storage.blobs, s.node, s.stopOn)
	s.lessor = newLessor(s)
	s.fsm.lessor, s.fsm.trace = s.lessor, s.cfg.Trace
	s.fsm.fetch, s.fsm.clock, s.fsm.old = s.fetch, time.Now, s.disk.last.index
	s.storage.bring = s.fsm.bring
	s.leader.changed = make(chan struct{})
	s.fsm.note = s.notePanic
	s.read.init(s.readRound)
	// Every entry is at most MaxEntry long, so this bounds the cache's memory too.
	cache, err := raft.NewLogCache(128, disk)
	if err != nil {
		return err
	}
	conf := s.raftConfig()
	if s.cfg.Bootstrap && !exists {
		if err := raft.BootstrapCluster(conf, cache, disk, s.storage.snaps, s.cfg.Transport, s.firstServers()); err != nil {
			return fmt.Errorf("make a new cluster: %w", err)
		}
	}
	s.holds.now, disk.held = time.Now, s.held
	wire := newWire(s)
	s.confirmer = &confirmer{self: s.id.ServerID, ask: wire.hail, spawn: s.wg.Go, stop: s.stopped, pause: s.cfg.Heartbeat / 20, peers: map[raft.ServerID]*voice{}}
	if err := s.startRaft(conf, cache, wire); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	wire.raft.Store(s.raft)
	s.follow()
	s.wg.Go(wire.pump)
	if s.lone() {
		wire.stand()
	}
	s.wg.Go(s.pulse)
	s.wg.Go(s.collect)
	s.wg.Go(s.handOver)
	s.wg.Go(s.missLeader)
	if s.storage.ring != nil {
		s.wg.Go(s.keepKeys)
	}
	if s.cfg.Storage == nil {
		s.wg.Go(s.limitLog)
		s.wg.Go(s.settleBlobs)
	}
	s.wg.Go(s.bound)
	s.wg.Go(s.sweep)
	return nil
}

// startRaft begins raft. It panics at an entry that cannot be read, and keeps to itself why a snapshot was not taken over.
func (s *Store) startRaft(conf *raft.Config, log raft.LogStore, wire raft.Transport) (err error) {
	defer func() {
		if cause := s.disk.failed(); cause != nil {
			_ = recover()
			err = cause
		}
	}()
	if s.raft, err = raft.NewRaft(conf, s.fsm, log, s.disk, &turns{SnapshotStore: numbered{s.storage.snaps}}, wire); err != nil {
		return errors.Join(err, s.fsm.unrestored)
	}
	return nil
}

// every calls do at each interval until the member ends or stops. It blocks; do is never called twice at a time.
func (s *Store) every(interval time.Duration, do func(now time.Time)) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-s.fatal:
			return
		case now := <-t.C:
			do(now)
		}
	}
}

func (s *Store) firstServers() raft.Configuration {
	servers := s.cfg.Servers
	if len(servers) == 0 {
		servers = []Server{{ID: s.id.ServerID, Address: string(s.cfg.Transport.LocalAddr()), Voter: true}}
	}
	var c raft.Configuration
	for _, m := range servers {
		suffrage := raft.Nonvoter
		if m.Voter {
			suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Address), Suffrage: suffrage})
	}
	return c
}

func (s *Store) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.id.ServerID)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = s.cfg.Heartbeat, s.cfg.Heartbeat, s.cfg.Heartbeat/2
	c.CommitTimeout = s.cfg.CommitTimeout
	c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = s.cfg.SnapshotEntries, s.cfg.TrailingEntries, s.cfg.SnapshotInterval
	c.MaxAppendEntries = 32
	c.BatchApplyCh = true
	// A removed member must go on answering reads of its state, and say that it was removed.
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(s.cfg.Logger)
	return c
}

// stopOn notes the first fault; the member leads and acknowledges nothing after it.
func (s *Store) stopOn(err error) {
	s.once.Do(func() {
		s.failure = err
		s.cfg.Logger.Error("the store stops", "error", err)
		close(s.fatal)
	})
}

// Failed is closed at the first fault after which the member must not go on; Run returns it.
func (s *Store) Failed() <-chan struct{} { return s.fatal }

// Closed is closed when Close has been called.
func (s *Store) Closed() <-chan struct{} { return s.stopped }

// Run blocks until ctx ends (nil), Close is called (nil) or a fault stops the member (the fault): the process should exit then and start
// again. It does not close the store.
func (s *Store) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.stopped:
		return nil
	case <-s.fatal:
		return fmt.Errorf("%w: %w", ErrStopped, s.failure)
	}
}

// Close ends the member and returns when all its goroutines have ended and its files are closed. Waiting calls return ErrStopped or
// ErrUnknown. It may be called twice.
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.stopped)
		s.fsm.stop()
		err := s.raft.Shutdown().Error()
		close(s.down)
		s.wg.Wait()
		s.closed = errors.Join(err, s.disk.settle(), closeTransport(s.cfg.Transport), s.storage.close())
	})
	return s.closed
}

// closeTransport closes a transport that can be closed. Streams of a network transport go first: they stay pooled otherwise.
func closeTransport(t raft.Transport) error {
	if n, ok := t.(*raft.NetworkTransport); ok {
		n.CloseStreams()
	}
	if c, ok := t.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// Identity is who this member is.
func (s *Store) Identity() Identity { return s.id }

// View is the state after the last whole entry that this member has applied. It does not block on other members.
func (s *Store) View() *View { return s.fsm.view() }

// Now is the cluster's time: that of the last entry that told one (Entry.Time), and what has passed since by this member's monotonic clock. Until
// one has come since this member started, live is false and it is the last entry's alone, which may be of long ago.
func (s *Store) Now() (at time.Time, live bool) { return s.fsm.now() }

// Watch follows the keys that begin with prefix, after revision rev. It returns ErrCompacted if the history does not reach back so
// far (rev+1 is below View.Floor). A rev greater than the store's waits until the store has come so far.
func (s *Store) Watch(prefix string, rev uint64) (*Watch, error) {
	return s.hist.watch(Prefix(prefix), rev)
}

// WatchSpan is Watch for any span of keys.
func (s *Store) WatchSpan(span Span, rev uint64) (*Watch, error) { return s.hist.watch(span, rev) }

// WaitRev blocks until this member has applied revision rev.
func (s *Store) WaitRev(ctx context.Context, rev uint64) error {
	err := s.fsm.wait(ctx, func(_, have uint64) bool { return have >= rev })
	if err != nil {
		return fmt.Errorf("wait for revision %d: %w", rev, err)
	}
	return nil
}

// Snapshot takes a snapshot now. It blocks until it is written; nothing new to write is no error.
func (s *Store) Snapshot() error {
	if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	return nil
}

// await waits for a future of raft, or for ctx. The future's own goroutine ends with the future, at the latest at Close.
func (s *Store) await(ctx context.Context, f raft.Future) error {
	return s.awaitThen(ctx, f, func() {})
}

// awaitThen is await, and calls then when the future has ended without an error, also after ctx has ended.
func (s *Store) awaitThen(ctx context.Context, f raft.Future, then func()) error {
	done := make(chan error, 1)
	endWith(f, s.down)
	s.wg.Go(func() {
		err := f.Error()
		if err == nil {
			then()
		}
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endWith makes a future answer ErrRaftShutdown once down is closed. raft leaves what its queues hold unanswered when it shuts down (api.go,
// Apply and VerifyLeader: they are buffered and nobody drains them), and Close would wait for ever. Its futures have a
// field for this, ShutdownCh, which raft sets for two kinds only and which can be reached by its name alone.
func endWith(f raft.Future, down chan struct{}) {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return
	}
	ch := v.Elem().FieldByName("ShutdownCh")
	if ch.IsValid() && ch.CanSet() && ch.Type() == reflect.TypeOf(down) && ch.IsNil() {
		ch.Set(reflect.ValueOf(down))
	}
}

// enqueueTimeout bounds how long a call waits for a place in raft's queue.
const enqueueTimeout = 10 * time.Second

func orRandom(id string) string {
	if id != "" {
		return id
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
