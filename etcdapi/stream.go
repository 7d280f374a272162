package etcdapi

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// leaderless is how long a server may be without a leader before it ends the streams whose clients asked for that
// (clientv3.WithRequireLeader): a watch on a server that was cut off would show nothing and say nothing.
const leaderless = 3 * time.Second

// unary refuses strangers, whatever they call: a method that asks by itself could be forgotten. Those of KV do not come here, for they
// need to know the client.
func (s *Server) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, err := s.clientOf(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// stream refuses strangers, and ends streams with the server, those whose clients do not read, and those of clients that require a leader
// when there is none. The handler has a goroutine of its own, for it may be held up in sending; when gRPC learns that the stream has ended
// it lets it go. Renewals of leases are spared that: a client that does not read their answers, of a few bytes for each of its requests, holds
// up nothing but them, and most open a stream for a single one.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if _, err := s.clientOf(stream.Context()); err != nil {
		return err
	}
	leads := false // whether it needs a leader
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok {
		if want := md.Get(rpctypes.MetadataRequireLeaderKey); len(want) > 0 && want[0] == rpctypes.MetadataHasLeader {
			if s.cfg.Store.Leader().ID == "" {
				return rpctypes.ErrGRPCNoLeader
			}
			leads = true
		}
	}
	if info.FullMethod == pb.Lease_LeaseKeepAlive_FullMethodName && !leads {
		return handler(srv, stream)
	}
	b := &boundStream{ServerStream: stream, method: info.FullMethod, tick: &s.senders.tick}
	b.ctx, b.end = context.WithCancelCause(stream.Context())
	defer b.end(nil)
	if leads {
		s.wg.Go(func() { s.guard(b.ctx, b.end) })
	}
	s.senders.enter(b)
	defer s.senders.leave(b)
	done := make(chan error, 1)
	s.wg.Go(func() { done <- handler(srv, b) })
	select {
	case err := <-done:
		return err
	case <-s.life.Done():
		return rpctypes.ErrGRPCStopped
	case <-b.ctx.Done():
	}
	if stream.Context().Err() != nil {
		return <-done // the client has gone, and holds up nothing
	}
	return context.Cause(b.ctx)
}

// boundStream is a stream that the server can end.
type boundStream struct {
	grpc.ServerStream
	ctx    context.Context
	end    context.CancelCauseFunc
	method string
	// tick is the present one. began is the one at which the present send began, 0 if there is none.
	tick  *atomic.Int64
	began atomic.Int64
}

// Context implements grpc.ServerStream.
func (b *boundStream) Context() context.Context { return b.ctx }

// SendMsg implements grpc.ServerStream.
func (b *boundStream) SendMsg(m any) error {
	b.began.Store(b.tick.Load())
	defer b.began.Store(0)
	return b.ServerStream.SendMsg(m)
}

// beats is how many ticks a send may take.
const beats = 8

// errSlow ends the stream of a client that does not read. Its code is one after which clientv3 resumes watches.
var errSlow = status.Error(codes.Unavailable, "etcdserver: the client does not take what is sent to it; resume where it was")

// senders are the server's streams. gRPC lets a send wait for as long as the client does not read; one goroutine, rather than a timer for each
// message, looks for those that wait too long.
type senders struct {
	tick atomic.Int64 // counts from 1
	mu   sync.Mutex
	all  map[*boundStream]struct{}
}

func newSenders() *senders {
	s := &senders{all: map[*boundStream]struct{}{}}
	s.tick.Store(1)
	return s
}

func (s *senders) enter(b *boundStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[b] = struct{}{}
}

func (s *senders) leave(b *boundStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, b)
}

// slow counts a tick and returns the streams whose send has waited for more than beats.
func (s *senders) slow() (out []*boundStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tick.Add(1)
	for b := range s.all {
		if began := b.began.Load(); began != 0 && now-began > beats {
			out = append(out, b)
		}
	}
	return out
}

// endSlow ends the streams whose clients do not read, until ctx ends.
func (s *Server) endSlow(ctx context.Context) {
	beat := time.NewTicker(max(s.cfg.SendTimeout/beats, 1))
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
		case <-ctx.Done():
			return
		}
		for _, b := range s.senders.slow() {
			from := "?"
			if p, ok := peer.FromContext(b.ctx); ok {
				from = p.Addr.String()
			}
			s.cfg.Log.Info("a client of etcd's API does not take what is sent to it: its stream is ended", "client", from, "method", b.method, "after", s.cfg.SendTimeout)
			b.end(errSlow)
		}
	}
}

// guard cancels a stream when there has been no leader for a while.
func (s *Server) guard(ctx context.Context, cancel context.CancelCauseFunc) {
	var limit <-chan time.Time
	for {
		changed := s.cfg.Store.LeaderChanged()
		switch led := s.cfg.Store.Leader().ID != ""; {
		case led:
			limit = nil
		case limit == nil:
			limit = time.After(leaderless)
		}
		select {
		case <-changed:
		case <-limit:
			cancel(rpctypes.ErrGRPCNoLeader)
			return
		case <-ctx.Done():
			return
		}
	}
}
