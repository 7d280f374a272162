package etcdapi

import (
	"cmp"
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errMembership answers changes of membership: joining needs keys, which etcd's requests do not carry.
var errMembership = status.Errorf(codes.Unimplemented, "etcdserver: members join with `reconcile server --join` and cannot be changed through etcd's API")

type clusterService struct {
	pb.UnimplementedClusterServer
	s *Server
}

// MemberList implements etcdserverpb.ClusterServer.
func (c clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	v, err := c.s.view(ctx, !r.Linearizable)
	if err != nil {
		return nil, err
	}
	members, err := c.s.members()
	if err != nil {
		return nil, err
	}
	return &pb.MemberListResponse{Header: c.s.header(v.Rev()), Members: members}, nil
}

// members are the servers that raft knows, with the names and URLs that they told.
func (s *Server) members() ([]*pb.Member, error) {
	servers, err := s.cfg.Store.Servers()
	if err != nil {
		return nil, status.Error(codes.Unavailable, "etcdserver: "+err.Error())
	}
	told := map[string]Member{}
	for _, m := range s.cfg.Members() {
		told[m.ID] = m
	}
	var out []*pb.Member
	for _, sv := range servers {
		m := told[sv.ID]
		if len(m.PeerURLs) == 0 {
			m.PeerURLs = []string{"https://" + sv.Address}
		}
		out = append(out, &pb.Member{ID: number(sv.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: !sv.Voter})
	}
	slices.SortFunc(out, func(a, b *pb.Member) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// MemberAdd implements etcdserverpb.ClusterServer.
func (clusterService) MemberAdd(context.Context, *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	return nil, errMembership
}

// MemberRemove implements etcdserverpb.ClusterServer.
func (clusterService) MemberRemove(context.Context, *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	return nil, errMembership
}

// MemberUpdate implements etcdserverpb.ClusterServer.
func (clusterService) MemberUpdate(context.Context, *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	return nil, errMembership
}

// MemberPromote implements etcdserverpb.ClusterServer.
func (clusterService) MemberPromote(context.Context, *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	return nil, errMembership
}
