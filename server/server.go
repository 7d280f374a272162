package server

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/api/explaindoor"
	"reconcile/api/gitdoor"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/etcdapi"
	"reconcile/explain"
	"reconcile/gitops"
	"reconcile/internal/diskspace"
	"reconcile/internal/gcpace"
	"reconcile/manifests"
	"reconcile/pki"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// Server is one member of the control plane. Make one with Open, then Run it, or Close it.
type Server struct {
	cfg       Config
	note      *note
	keys      *pki.Authority
	identity  pki.Identity
	pool      *x509.CertPool
	mux       *pki.Mux
	peers     *peers
	store     *raftstore.Store
	seq       *sequencer.Sequencer
	commits   *gitops.Service
	api       *gate
	inner     http.Handler
	measuring *measuring
	raftLn    net.Listener
	apiLn     net.Listener
	forwardLn net.Listener
	// etcd and its listener are nil unless it is asked for.
	etcd   *etcdapi.Server
	etcdLn net.Listener
}

// Close frees what Open took, for one who does not Run.
func (s *Server) Close() error {
	s.peers.close()
	err := errors.Join(s.mux.Close(), s.store.Close())
	if s.etcdLn != nil {
		err = errors.Join(err, s.etcdLn.Close())
	}
	return err
}

// Open loads or makes the keys, takes the port and opens the store. Nothing is served before Run.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg}
	var err error
	if s.note, err = openNote(cfg.DataDir, cfg.Join != ""); err != nil {
		return nil, err
	}
	if err := s.openKeys(); err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose another address with --api-addr", cfg.Listen, err)
	}
	s.mux = pki.NewMux(ln, pki.ServerTLS(s.identity, s.pool), cfg.Log)
	s.raftLn = s.mux.Listen(pki.ProtoRaft)
	s.forwardLn = s.mux.Listen(pki.ProtoForward)
	s.apiLn = s.mux.Listen(pki.ProtoH2, pki.ProtoHTTP1)
	s.peers = newPeers(s.identity, s.pool)
	if err := s.openStore(ctx); err != nil {
		ln.Close()
		return nil, err
	}
	err = s.build()
	if err == nil {
		err = s.openEtcd(ctx)
	}
	if err != nil {
		ln.Close()
		return nil, errors.Join(err, s.store.Close())
	}
	return s, nil
}

func (s *Server) openKeys() (err error) {
	if s.keys, err = pki.Open(pki.Config{Dir: filepath.Join(s.cfg.DataDir, "pki")}); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(s.cfg.Advertise)
	if err != nil {
		return err
	}
	api := admission.Ranges{Services: s.cfg.ServiceCIDR}.API()
	hosts := append([]string{"localhost", "127.0.0.1", host, api.String(), "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, s.cfg.Hosts...)
	if etcd, _, err := net.SplitHostPort(s.cfg.EtcdListen); err == nil && etcd != "" {
		hosts = append(hosts, etcd)
	}
	s.identity, err = s.keys.Identity(pki.ServerSpec(s.cfg.Name, hosts))
	s.pool = s.keys.Pool()
	return err
}

// openStore opens the store that the data directory holds. Only a directory that never held one gets a new one: by joining, or as the first
// of a new cluster.
func (s *Server) openStore(ctx context.Context) error {
	stream := &streamLayer{Listener: s.raftLn, advertise: raft.ServerAddress(s.cfg.Advertise), peers: s.peers}
	cfg := raftstore.Config{
		Dir:       filepath.Join(s.cfg.DataDir, "store"),
		Log:       s.cfg.LogStore,
		Key:       s.cfg.Key,
		Fetch:     s.peers.FetchBlob,
		Transport: raftstore.NewTransport(stream, s.cfg.Log),
		Index:     cluster.Index,
		Logger:    s.cfg.Log,
	}
	store, err := raftstore.Open(cfg)
	if errors.Is(err, raftstore.ErrNoServer) {
		if s.cfg.Join != "" {
			cfg.Join = true
			cfg.ClusterID, err = s.clusterToJoin(ctx)
		} else {
			cfg.Bootstrap = true
			cfg.ClusterID, err = s.note.newCluster()
		}
		if err != nil {
			return err
		}
		store, err = raftstore.Open(cfg)
	}
	if err != nil {
		return err
	}
	id := store.Identity()
	if err := s.note.is(id.ClusterID, id.ServerID, cfg.Join); err != nil {
		return errors.Join(err, store.Close())
	}
	if err := s.atItsAddress(store); err != nil {
		return errors.Join(err, store.Close())
	}
	s.store = store
	return nil
}

// atItsAddress is an error if the other servers know this one at another address, and it does not ask to be known at this: the data directory may
// be a copy, and two servers of one ID would each vote.
func (s *Server) atItsAddress(store *raftstore.Store) error {
	servers, err := store.Servers()
	if err != nil {
		return err
	}
	if s.cfg.Join != "" || len(servers) < 2 {
		return nil
	}
	for _, m := range servers {
		if m.ID == store.Identity().ServerID && m.Address != s.cfg.Advertise {
			return fmt.Errorf("the other servers know the server of %s at %s, and it is started at %s: if its address has changed, start it with --join HOST:PORT of another server; "+
				"if the directory is a copy of another machine's, remove %s and %s from it and join with a store of its own",
				s.cfg.DataDir, m.Address, s.cfg.Advertise, filepath.Join(s.cfg.DataDir, "store"), filepath.Join(s.cfg.DataDir, noteName))
		}
	}
	return nil
}

// clusterToJoin asks a member of the cluster for the cluster's ID.
func (s *Server) clusterToJoin(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	b, err := s.peers.post(ctx, s.cfg.Join, pathCluster, nil)
	if err != nil {
		return "", fmt.Errorf("join %s: %w; is it a server of the cluster whose keys are in %s?", s.cfg.Join, err, filepath.Join(s.cfg.DataDir, "pki"))
	}
	var w welcome
	if err := json.Unmarshal(b, &w); err != nil {
		return "", fmt.Errorf("join %s: read its answer: %w", s.cfg.Join, err)
	}
	return w.ClusterID, nil
}

// build makes what stands on the store. It starts nothing.
func (s *Server) build() error {
	ranges := admission.Ranges{Services: s.cfg.ServiceCIDR}
	issuer, err := s.keys.Issuer()
	if err != nil {
		return err
	}
	tokens, err := s.keys.Tokens()
	if err != nil {
		return err
	}
	set, err := controller.NewSet(controller.Config{ClusterID: s.store.Identity().ClusterID, ServiceRange: s.cfg.ServiceCIDR, PodRange: s.cfg.PodCIDR, RootCA: string(s.keys.PEM()),
		AdmitPod: admission.AdmitPod[controller.View], AdmitClaim: admission.AdmitClaim[controller.View], Signer: issuer, Tokens: tokens, Extensions: s.cfg.Extensions})
	if err != nil {
		return err
	}
	if s.measuring, err = s.newMeasuring(); err != nil {
		return err
	}
	if s.seq, err = sequencer.New(sequencer.Config{
		Usages: s.measuring.usages,
		Store:  s.store, Settler: sequencer.Controllers{Set: set}, Ranges: ranges, Forwarder: s.peers, Token: gitops.Token, Txns: etcdapi.Codec{Objects: true}, Logger: s.cfg.Log,
	}); err != nil {
		return err
	}
	if err := s.buildCommits(); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	metrics, err := api.MetricsHandler(registry)
	if err != nil {
		return err
	}
	s.inner = (&peerService{store: s.store, peers: s.peers, serve: s.seq.Serve, usage: s.measuring.Table, metrics: s.measuring.scraper.Metrics}).handler()
	handler, err := api.New(api.Config{
		Store: objects{store: s.store, seq: s.seq}, Writer: s.seq,
		Origins: origins{store: s.store, commits: s.commits},
		Agents:  agents{identity: s.identity, pool: s.pool}, Tokens: tokens, Usage: s.measuring.answer, CustomMetrics: s.measuring.told,
		Git: gitdoor.Git(s.commits, s.cfg.Log), Reconcile: s.reconcile(),
		Metrics: metrics, Registerer: registry, Ready: s.readyChecks(), Live: s.liveChecks(),
		Version: kubernetesVersion(s.cfg.Version), ServerAddress: s.cfg.Advertise, Log: s.cfg.Log,
	})
	s.api = &gate{next: handler}
	return err
}

// measuredView is a state with what its pods were measured to use, for profiles that score that. Only the leader knows.
type measuredView struct {
	*cluster.View
	sequencer.Usages
}

// reconcile serves what is ours and not Kubernetes'.
func (s *Server) reconcile() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", gitdoor.Reconcile(s.commits, s.cfg.Log))
	why := explaindoor.New(func() explain.View { return measuredView{cluster.NewView(s.store.View()), s.measuring.usages()} }, s.cfg.Extensions...)
	mux.Handle(explaindoor.Prefix, why)
	mux.Handle(explaindoor.Rebalance, why)
	return mux
}

// buildCommits makes the commits' way.
func (s *Server) buildCommits() error {
	child, err := manifests.NewChild()
	if err != nil {
		return err
	}
	loader, err := manifests.NewLoader(manifests.Config{Evaluator: child})
	if err != nil {
		return err
	}
	s.commits, err = gitops.New(gitops.Config{
		Cluster: s.store.Identity().ClusterID, Store: packs{s.store}, State: live{s.store}, Writer: s.seq, Loader: loader, Now: time.Now, Extensions: s.cfg.Extensions, Log: s.cfg.Log,
	})
	return err
}

func (s *Server) readyChecks() []api.Check {
	return append(s.liveChecks(), api.Check{Name: "leader", Run: func(context.Context) error {
		if s.store.Leader().ID == "" {
			return errors.New("no server leads")
		}
		return nil
	}})
}

func (s *Server) liveChecks() []api.Check {
	return []api.Check{{Name: "store", Run: func(context.Context) error {
		select {
		case <-s.store.Failed():
			return errors.New("the store has stopped")
		default:
			return nil
		}
	}}}
}

// Keys is the cluster's authority, for the certificates of the administrator and of this machine's node.
func (s *Server) Keys() *pki.Authority { return s.keys }

// Run serves until ctx ends or a piece fails, and returns after everything has stopped. ready is called once when a push would be
// served.
func (s *Server) Run(ctx context.Context, ready func()) error {
	defer s.peers.close()
	// The shared port carries raft too: it is the last to end.
	port, stopPort := context.WithCancel(context.WithoutCancel(ctx))
	portDone := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel() // a member without its port is none
		portDone <- s.mux.Run(port)
	}()
	err := s.serve(ctx, ready)
	// With the store still open another server takes the lead at once, instead of after an election's timeout.
	s.yieldLead()
	err = errors.Join(err, s.store.Close())
	stopPort()
	return errors.Join(err, <-portDone)
}

// serve runs the sequencer and HTTP.
func (s *Server) serve(ctx context.Context, ready func()) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	g, gctx := errgroup.WithContext(work)
	g.Go(func() error { return s.store.Run(gctx) })
	g.Go(func() error { return s.seq.Run(gctx) })
	g.Go(func() error { return s.measuring.Run(gctx) })
	g.Go(func() error {
		gcpace.Run(gctx)
		return nil
	})
	// Requests end with requests, so that watches close when the server stops.
	requests, stopRequests := context.WithCancel(gctx)
	defer stopRequests()
	outer := s.httpServer(requests, s.api)
	inner := s.httpServer(requests, s.inner)
	g.Go(func() error { return serveHTTP(outer, s.apiLn) })
	g.Go(func() error { return serveHTTP(inner, plain{s.forwardLn}) })
	if s.etcd != nil {
		g.Go(func() error { return s.runEtcd(requests) })
	}
	joined := make(chan struct{})
	g.Go(func() error {
		defer close(joined)
		if s.cfg.Join == "" || s.belongs() {
			return nil
		}
		return s.join(gctx)
	})
	space := &disk{fs: diskspace.At(s.cfg.DataDir), dir: s.cfg.DataDir, log: s.cfg.Log}
	g.Go(func() error { return space.run(gctx) })
	l := &leases{store: s.store, seq: s.seq, id: s.store.Identity().ServerID, address: s.cfg.Advertise, disk: space, log: s.cfg.Log}
	caughtUp := make(chan struct{})
	g.Go(func() error {
		return l.run(gctx, func() {
			// The lease is written, and shown here: so is all that was committed before it.
			s.api.open.Store(true)
			close(caughtUp)
		})
	})
	g.Go(func() error {
		select {
		case <-caughtUp:
		case <-gctx.Done():
			return nil
		}
		// The first push is not to pay for reading the repository; nor is the lease, which a large one would keep from being renewed.
		if err := s.commits.Warm(gctx); err != nil {
			s.cfg.Log.Warn("cannot read the repository yet; the next push tries again", "error", err)
		}
		<-joined
		ready()
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-gctx.Done():
		}
		// New connections first, then the watches, then what still writes; the sequencer answers all of it before it ends.
		stopRequests()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := errors.Join(closeHTTP(grace, outer), closeHTTP(grace, inner))
		stopWork()
		return err
	})
	return g.Wait()
}

func (s *Server) httpServer(ctx context.Context, h http.Handler) *http.Server {
	return api.HTTPServer(ctx, api.Config{Log: s.cfg.Log, Limits: limits()}, h)
}

// limits leaves a quarter of the process's file descriptors to raft, the store and the agents' streams.
func limits() api.Limits {
	l := api.DefaultLimits()
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Cur < uint64(l.Connections) {
		l.Connections = int(files.Cur / 4 * 3)
	}
	return l
}

func serveHTTP(h *http.Server, ln net.Listener) error {
	if err := h.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// plain hides that its connections are TLS: net/http closes one whose protocol it does not know, and it does not know fwd/1.
type plain struct{ net.Listener }

// Accept implements net.Listener.
func (p plain) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

// closeHTTP lets requests end until ctx does, then cuts them off.
func closeHTTP(ctx context.Context, h *http.Server) error {
	if err := h.Shutdown(ctx); err != nil {
		return h.Close()
	}
	return nil
}

// yieldLead hands the lead to another server before this one stops.
func (s *Server) yieldLead() {
	if servers, err := s.store.Servers(); err != nil || len(servers) < 2 || !s.store.Leader().Self {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.store.TransferLeadership(ctx); err != nil {
		s.cfg.Log.Info("could not hand over the lead", "error", err)
	}
}
