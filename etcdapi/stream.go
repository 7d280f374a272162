package etcdapi

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
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

// stream refuses strangers, and ends streams with the server, and those of clients that require a leader when there is none.
func (s *Server) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if _, err := s.clientOf(stream.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok {
		if want := md.Get(rpctypes.MetadataRequireLeaderKey); len(want) > 0 && want[0] == rpctypes.MetadataHasLeader {
			if s.cfg.Store.Leader().ID == "" {
				return rpctypes.ErrGRPCNoLeader
			}
			s.wg.Go(func() { s.guard(ctx, cancel) })
			return handled(ctx, handler(srv, boundStream{stream, ctx}))
		}
	}
	return handler(srv, stream)
}

// handled prefers the reason for which a stream was ended.
func handled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause == rpctypes.ErrGRPCNoLeader { //nolint:errorlint // the very value that guard sets
		return cause
	}
	return err
}

// boundStream is a stream with another context.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (b boundStream) Context() context.Context { return b.ctx }

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
