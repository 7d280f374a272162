package etcdapi

import (
	"context"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"reconcile/raftstore"
)

type leaseService struct {
	pb.UnimplementedLeaseServer
	s *Server
}

// minTTL is the least TTL in seconds that is granted: a lease must outlive the election of a new leader.
const minTTL = 2

// LeaseGrant implements etcdserverpb.LeaseServer.
func (l leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if _, err := l.s.clientOf(ctx); err != nil {
		return nil, err
	}
	if r.TTL > raftstore.MaxLeaseTTL {
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
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
	if _, err := l.s.clientOf(ctx); err != nil {
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

// LeaseLeases implements etcdserverpb.LeaseServer.
func (l leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	if _, err := l.s.clientOf(ctx); err != nil {
		return nil, err
	}
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
