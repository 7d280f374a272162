package etcdapi

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/raftstore"
)

type leaseService struct {
	pb.UnimplementedLeaseServer
	s *Server
}

// minTTL is the least TTL in seconds that is granted: a lease must outlive the election of a new leader.
const minTTL = 2

// errLeaseID refuses numbers that the store does not take. Etcd takes negative IDs, and has no error for them; those that it draws are
// above 0, as ours are.
var errLeaseID = status.Error(codes.InvalidArgument, "etcdserver: the ID and the TTL of a lease must be above 0")

// LeaseGrant implements etcdserverpb.LeaseServer.
func (l leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.TTL > raftstore.MaxLeaseTTL {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	}
	if r.ID < 0 {
		return nil, errLeaseID
	}
	if r.ID == 0 {
		r.ID = rand.Int64N(1<<62) + 1
	}
	r.TTL = max(r.TTL, minTTL)
	a, err := l.s.submit(ctx, kindGrant, r)
	if err != nil {
		return nil, err
	}
	m := a.msg.(*pb.LeaseGrantResponse)
	m.Header = l.s.header(a.rev)
	return m, nil
}

// LeaseRevoke implements etcdserverpb.LeaseServer.
func (l leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if err := l.mayRevoke(ctx, r.ID); err != nil {
		return nil, err
	}
	a, err := l.s.submit(ctx, kindRevoke, r)
	if err != nil {
		return nil, err
	}
	m := a.msg.(*pb.LeaseRevokeResponse)
	m.Header = l.s.header(a.rev)
	return m, nil
}

// mayRevoke refuses those who may not delete what hangs on the lease. It goes by what hangs on it now.
func (l leaseService) mayRevoke(ctx context.Context, id int64) error {
	c, err := l.s.clientOf(ctx)
	if err != nil || c.registry {
		return err
	}
	v, err := l.s.view(ctx, false)
	if err != nil {
		return err
	}
	for key := range v.LeaseKeys(id) {
		if err := c.mayWrite(raftstore.Key(key)); err != nil {
			return err
		}
	}
	return nil
}

// LeaseLeases implements etcdserverpb.LeaseServer.
func (l leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	v, err := l.s.view(ctx, false)
	if err != nil {
		return nil, err
	}
	out := &pb.LeaseLeasesResponse{Header: l.s.header(v.Rev())}
	for lease := range v.Leases() {
		out.Leases = append(out.Leases, &pb.LeaseStatus{ID: lease.ID})
	}
	return out, nil
}

// LeaseTimeToLive implements etcdserverpb.LeaseServer.
func (l leaseService) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if err := l.s.awaitLeader(ctx); err != nil {
		return nil, err
	}
	left, err := l.s.cfg.Store.Lessor().TimeToLive(ctx, r.ID)
	v := l.s.cfg.Store.View()
	out := &pb.LeaseTimeToLiveResponse{Header: l.s.header(v.Rev()), ID: r.ID, TTL: left}
	if errors.Is(err, raftstore.ErrNoLease) {
		out.TTL = -1 // no error, in etcd
		return out, nil
	}
	if err != nil {
		return nil, leaseError(ctx, err)
	}
	if v, err = l.s.view(ctx, false); err != nil {
		return nil, err
	}
	lease, ok := v.Lease(r.ID)
	if !ok {
		out.TTL = -1
		return out, nil
	}
	out.GrantedTTL = lease.TTL
	c, err := l.s.clientOf(ctx)
	if err != nil || !r.Keys {
		return out, err
	}
	for key := range v.LeaseKeys(r.ID) {
		if c.mayRead(raftstore.Key(key)) == nil {
			out.Keys = append(out.Keys, []byte(key))
		}
	}
	return out, nil
}

// LeaseKeepAlive implements etcdserverpb.LeaseServer. Renewals of all streams share rounds (raftstore.Lessor), and answers of a stream keep the
// order of their requests.
func (l leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	ctx := stream.Context()
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.s.awaitLeader(ctx); err != nil {
			return err
		}
		ttl, err := l.s.cfg.Store.Lessor().KeepAlive(ctx, r.ID)
		if errors.Is(err, raftstore.ErrNoLease) {
			ttl, err = 0, nil // what etcd says of a lease that is gone
		}
		if err != nil {
			return leaseError(ctx, err)
		}
		out := &pb.LeaseKeepAliveResponse{Header: l.s.header(l.s.cfg.Store.View().Rev()), ID: r.ID, TTL: ttl}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

// leaseError is the status of a question about a lease that found no answer.
func leaseError(ctx context.Context, err error) error {
	if errors.Is(err, raftstore.ErrNotLeader) && ctx.Err() == nil {
		return rpctypes.ErrGRPCNoLeader
	}
	return submitError(ctx, err)
}
