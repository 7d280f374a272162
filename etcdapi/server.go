package etcdapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"reconcile/raftstore"
	"reconcile/sequencer"
)

// Config is what a Server needs.
type Config struct {
	// Store is read from, Sequencer takes the writes; its Config.Txns must be a Codec.
	Store     *raftstore.Store
	Sequencer *sequencer.Sequencer
	// Members tells names and URLs of the cluster's members; MemberList adds what the store knows of them.
	Members func() []Member
	// AskAlarm asks another member for its AlarmOf. Nil asks none: this member's own alarms are all that are shown.
	AskAlarm func(ctx context.Context, of raftstore.Server) (Alarm, error)
	// TLS serves with certificates and asks clients for theirs. Nil serves everybody in the clear, which only tests and measurements want.
	TLS *tls.Config
	// Objects is that of the Codec.
	Objects bool
	// AllowRegistryWrites lets masters write below /registry.
	AllowRegistryWrites bool
	// ProgressEvery is how often watches that asked for it are told how far they have come while nothing happens. Default 10 min, etcd's.
	ProgressEvery time.Duration
	// SendTimeout is how long a stream may wait for its client to take a message; then it is ended, and clients that still live resume with
	// a new one. Default 30 s.
	SendTimeout time.Duration
	// Log must be set.
	Log *slog.Logger
}

// Member is how one server of the cluster is reached.
type Member struct {
	// ID is the server's ID in the store.
	ID string `json:"id"`
	// Name is the machine's name.
	Name string `json:"name"`
	// PeerURLs and ClientURLs are where it serves the other members, and this API; the latter are empty if it does not.
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// Validate lists all faults of the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Store == nil || c.Sequencer == nil || c.Members == nil || c.Log == nil {
		errs = append(errs, errors.New("the fields Store, Sequencer, Members and Log must be set"))
	}
	if c.TLS != nil && c.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		errs = append(errs, errors.New("TLS must ask for and verify the clients' certificates"))
	}
	if c.ProgressEvery < 0 || c.SendTimeout < 0 {
		errs = append(errs, errors.New("the fields ProgressEvery and SendTimeout must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure etcd's API: %w", err)
	}
	return nil
}

// Server serves etcd's v3 API. Make one with New, then Run it.
type Server struct {
	cfg                 Config
	clusterID, memberID uint64
	// term is raft's, for headers.
	term  atomic.Uint64
	reads *reads
	// last is what a watch sent last.
	last atomic.Pointer[lastResponse]
	// senders are the open streams.
	senders *senders
	// snapshots holds a token while a snapshot is made and sent.
	snapshots chan struct{}
	wg        sync.WaitGroup
	grpc      *grpc.Server
	// life ends when Run does, and streams with it.
	life context.Context
	end  context.CancelFunc
}

// streamWindow and connWindow are how much a client may send before the server has read it. Fixed windows spare a ping and its answer for each
// request, by which gRPC would measure what the connection carries.
const (
	streamWindow = 1 << 20
	connWindow   = 4 << 20
)

// workers is how many goroutines stay for requests: a new one must grow its stack for each. Where all are busy new ones are made.
const workers = 256

// New makes a server.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.ProgressEvery == 0 {
		cfg.ProgressEvery = 10 * time.Minute
	}
	if cfg.SendTimeout == 0 {
		cfg.SendTimeout = 30 * time.Second
	}
	id := cfg.Store.Identity()
	s := &Server{cfg: cfg, clusterID: number(id.ClusterID), memberID: number(id.ServerID), senders: newSenders(), snapshots: make(chan struct{}, 1)}
	s.life, s.end = context.WithCancel(context.Background())
	s.reads = &reads{ask: s.readIndex, wg: &s.wg}
	s.term.Store(cfg.Store.Leader().Term)
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxRequest + 64<<10),
		grpc.MaxConcurrentStreams(1 << 20),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.NumStreamWorkers(workers),
		// Clients ask every few seconds whether the server lives; clientv3's least is 5 s.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
	}
	if cfg.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	s.grpc = grpc.NewServer(opts...)
	s.grpc.RegisterService(s.kvService(), s)
	s.grpc.RegisterService(s.lockService(), s)
	s.grpc.RegisterService(s.electionService(), s)
	pb.RegisterWatchServer(s.grpc, watchService{s: s})
	pb.RegisterLeaseServer(s.grpc, leaseService{s: s})
	pb.RegisterClusterServer(s.grpc, clusterService{s: s})
	pb.RegisterMaintenanceServer(s.grpc, maintenanceService{s: s})
	pb.RegisterAuthServer(s.grpc, authService{})
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s.grpc, h)
	return s, nil
}

// number is an ID of ours as etcd has it: a number that is not 0.
func number(id string) uint64 {
	if n, err := strconv.ParseUint(id, 16, 64); err == nil && n != 0 {
		return n
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	return max(h.Sum64(), 1)
}

// Run serves the listener, which it closes, until ctx ends or the listener fails. It returns after all its goroutines have ended.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	s.wg.Go(func() { s.followTerm(ctx) })
	s.wg.Go(func() { s.endSlow(ctx) })
	served := make(chan error, 1)
	s.wg.Go(func() { served <- s.grpc.Serve(ln) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve etcd's API: %w", err)
	}
	s.end()
	s.grpc.Stop()
	s.wg.Wait()
	return err
}

// followTerm keeps the term of headers until ctx ends.
func (s *Server) followTerm(ctx context.Context) {
	for {
		changed := s.cfg.Store.LeaderChanged()
		s.term.Store(s.cfg.Store.Leader().Term)
		select {
		case <-changed:
		case <-s.life.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}
