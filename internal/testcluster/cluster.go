package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/gitops"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// Config says what to start. The zero value is three servers on storage in memory, without nodes, with the real controllers.
type Config struct {
	Servers int
	// Nodes is the number of fake nodes; they are named n00, n01, …
	Nodes int
	// Settler, if set, takes the place of the real controllers.
	Settler sequencer.Settler
	// Disk puts each server's storage into a folder of the test.
	Disk bool
	// Change, if set, is called on each store's configuration.
	Change func(*raftstore.Config)
	// MessageTimeout is how long raft waits for the answer to a message; default 200 ms.
	MessageTimeout time.Duration
	// Answered, if set, is called when a server has heard the answer to a heartbeat of its own.
	Answered func(from, to string)
	// Installing, if set, is called before a server sends a snapshot to another, which waits for it.
	Installing func(from, to string)
	// Carried, if set, is called when the leader has answered a message that server from forwarded, before the answer goes back.
	Carried func(from int)
	// Logger is where all servers log; default: nowhere.
	Logger *slog.Logger
}

// ClusterID is the cluster's name in everything that is derived from it.
const ClusterID = "testcluster"

// Cluster is a running control plane. Its methods may be called by many goroutines of the bubble.
type Cluster struct {
	t       testing.TB
	cfg     Config
	servers []*Server
	net     *network
	nodes   []*Node
	stop    context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup

	// History is what happened.
	History *History
}

// Server is one member. Store and Seq are replaced by a restart; take them by the methods.
type Server struct {
	Index   int
	ID      string
	c       *Cluster
	storage *raftstore.Storage
	dir     string
	disk    disk
	// skew is how far the server's wall clock is ahead, in nanoseconds.
	skew atomic.Int64

	turn    sync.Mutex // held while the server starts or ends
	mu      sync.Mutex
	store   *raftstore.Store
	seq     *sequencer.Sequencer
	running bool
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// Start starts the cluster and waits until it has a leader. It is ended by the test's cleanup. It must be called inside
// synctest.Test.
func Start(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Servers == 0 {
		cfg.Servers = 3
	}
	if cfg.MessageTimeout == 0 {
		cfg.MessageTimeout = 200 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Settler == nil {
		set, err := controller.NewSet(controller.Config{ClusterID: ClusterID, ServiceRange: serviceRange(), PodRange: netip.MustParsePrefix("10.244.0.0/16"), AdmitPod: admission.AdmitPod[controller.View], AdmitClaim: admission.AdmitClaim[controller.View]})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Settler = sequencer.Controllers{Set: set}
	}
	c := &Cluster{t: t, cfg: cfg, net: newNetwork(cfg.Servers), History: newHistory()}
	c.ctx, c.stop = context.WithCancel(context.Background())
	dir := ""
	if cfg.Disk {
		dir = t.TempDir() // before the cleanup, so that it is removed after it
	}
	t.Cleanup(c.close)
	for i := range cfg.Servers {
		s := &Server{Index: i, ID: fmt.Sprintf("s%d", i), c: c, storage: raftstore.MemoryStorage()}
		if cfg.Disk {
			s.storage, s.dir = nil, filepath.Join(dir, s.ID)
		} else {
			s.storage.Intercept(s.disk.write)
		}
		c.servers = append(c.servers, s)
	}
	for i := range c.servers {
		c.Restart(i)
	}
	c.Leader()
	for i := range cfg.Nodes {
		c.nodes = append(c.nodes, &Node{Name: fmt.Sprintf("n%02d", i), c: c, index: i})
		c.StartNode(i)
	}
	return c
}

// StartNode starts node i's agent, which StopNode has stopped.
func (c *Cluster) StartNode(i int) {
	n := c.nodes[i]
	ctx, stop := context.WithCancel(c.ctx)
	ended := make(chan struct{})
	n.stop = func() { stop(); <-ended }
	c.wg.Go(func() { defer close(ended); n.run(ctx) })
	c.History.note(n.Name, "agent started", 0)
}

// StopNode stops node i's agent, as a machine that is switched off: it renews no lease and reports nothing.
func (c *Cluster) StopNode(i int) {
	c.nodes[i].stop()
	c.History.note(c.nodes[i].Name, "agent stopped", 0)
}

func serviceRange() netip.Prefix { return netip.MustParsePrefix("10.96.0.0/16") }

func (c *Cluster) close() {
	c.stop()
	c.wg.Wait()
	for _, s := range c.servers {
		s.end()
	}
	if c.t.Failed() {
		c.History.save(c.t)
	}
}

// Go runs f beside the test until it returns; its ctx ends with the cluster.
func (c *Cluster) Go(f func(ctx context.Context)) { c.wg.Go(func() { f(c.ctx) }) }

// Server returns server i, whether it runs or not.
func (c *Cluster) Server(i int) *Server { return c.servers[i] }

// Store is the server's store of now; closed if the server was killed.
func (s *Server) Store() *raftstore.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store
}

// Seq is the server's sequencer of now.
func (s *Server) Seq() *sequencer.Sequencer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

// Running tells whether the server has been started and not killed since.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// View is the server's committed state.
func (s *Server) View() *cluster.View { return cluster.NewView(s.Store().View()) }

// Restart starts server i on the storage that it left.
func (c *Cluster) Restart(i int) {
	s := c.servers[i]
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.Running() {
		return
	}
	s.disk.repair()
	var members []raftstore.Server
	for _, m := range c.servers {
		members = append(members, raftstore.Server{ID: m.ID, Address: m.ID, Voter: true})
	}
	transport := c.net.start(i, c.cfg.MessageTimeout, hooks{from: s.ID, answered: c.cfg.Answered, installing: c.cfg.Installing})
	cfg := raftstore.Config{
		Dir: s.dir, Storage: s.storage, ServerID: s.ID, ClusterID: ClusterID, Bootstrap: true, Servers: members, Transport: transport,
		Index: cluster.Index, Heartbeat: 300 * time.Millisecond, Logger: c.cfg.Logger.With("server", s.ID),
		Fetch: forwarder{c, i}.fetchBlob,
	}
	if c.cfg.Change != nil {
		c.cfg.Change(&cfg)
	}
	store, err := raftstore.Open(cfg)
	if err != nil {
		c.t.Errorf("start server %d: %v", i, err)
		return
	}
	seq, err := sequencer.New(sequencer.Config{
		Store: store, Settler: c.cfg.Settler, Ranges: admission.Ranges{Services: serviceRange()}, Forwarder: forwarder{c, i}, Logger: cfg.Logger,
		Token: gitops.Token, Now: func() time.Time { return time.Now().Round(0).Add(time.Duration(s.skew.Load())) },
	})
	if err != nil {
		c.t.Errorf("start server %d: %v", i, err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	s.store, s.seq, s.cancel, s.running = store, seq, cancel, true
	s.mu.Unlock()
	s.wg.Go(func() {
		err := seq.Run(ctx)
		switch {
		case err == nil:
		case s.disk.hasFailed():
			c.wg.Go(func() { c.kill(i, store) }) // as the process would end
		default:
			c.t.Errorf("server %d: %v", i, err)
		}
	})
	c.History.note("server", s.ID+" started", 0)
}

// Kill ends server i at once: nothing leaves it from now on, and its storage stays as it is.
func (c *Cluster) Kill(i int) { c.kill(i, nil) }

// kill ends server i, if store is nil or still the one that it runs on.
func (c *Cluster) kill(i int, store *raftstore.Store) {
	s := c.servers[i]
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.Running() || store != nil && s.Store() != store {
		return
	}
	c.net.cutAll(i)
	c.net.remove(i)
	c.History.note("server", s.ID+" killed", 0)
	s.end()
}

// end closes what runs. The caller holds turn, or is the last.
func (s *Server) end() {
	s.mu.Lock()
	running := s.running
	s.running = false
	s.mu.Unlock()
	if !running {
		return
	}
	if err := s.store.Close(); err != nil && !s.disk.hasFailed() {
		s.c.t.Errorf("close %s: %v", s.ID, err)
	}
	s.cancel()
	s.wg.Wait()
}

// patience is how long the cluster is waited for, in its own time.
const patience = time.Minute

// Leader waits until one running server leads and has passed its barrier, and returns it.
func (c *Cluster) Leader() *Server {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		for _, s := range c.servers {
			if s.Running() && s.Store().Leader().Self {
				if _, err := s.Store().ReadIndex(c.ctx); err == nil {
					return s
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("no leader within %s", patience)
	return nil
}

// WaitFor waits until ok holds on the leader's committed state.
func (c *Cluster) WaitFor(what string, ok func(v *cluster.View) bool) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if s := c.Leader(); ok(s.View()) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("%s: not within %s", what, patience)
}

// forwarder carries messages between servers, over the links that there are.
type forwarder struct {
	c    *Cluster
	from int
}

// Forward implements sequencer.Forwarder. If the link is cut while the leader works, the answer is lost.
func (f forwarder) Forward(ctx context.Context, leader raftstore.Leader, body []byte) ([]byte, error) {
	to := -1
	for i, s := range f.c.servers {
		if s.ID == leader.ID {
			to = i
		}
	}
	if to < 0 || !f.c.servers[to].Running() {
		return nil, fmt.Errorf("server %q does not run", leader.ID)
	}
	cut, ok := f.c.net.link(f.from, to)
	if f.c.net.isSilent(f.from, to) {
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", raftstore.ErrUnknown, ctx.Err())
	}
	if !ok {
		return nil, fmt.Errorf("no way to server %q", leader.ID)
	}
	type result struct {
		body []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		body, err := f.c.servers[to].Seq().Serve(ctx, body)
		if f.c.cfg.Carried != nil {
			f.c.cfg.Carried(f.from)
		}
		done <- result{body, err}
	}()
	select {
	case r := <-done:
		return r.body, r.err
	case <-cut:
		if f.c.net.isSilent(f.from, to) {
			<-ctx.Done()
		}
		return nil, fmt.Errorf("the way to server %q was cut: %w", leader.ID, raftstore.ErrUnknown)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", raftstore.ErrUnknown, ctx.Err())
	}
}

// fetchBlob is raftstore.Config.Fetch.
func (f forwarder) fetchBlob(_ context.Context, from raftstore.Server, digest string) ([]byte, error) {
	for to, s := range f.c.servers {
		if _, linked := f.c.net.link(f.from, to); s.ID == from.ID && linked && s.Running() {
			return s.Store().ServeBlob(digest)
		}
	}
	return nil, fmt.Errorf("server %q cannot be reached", from.ID)
}
