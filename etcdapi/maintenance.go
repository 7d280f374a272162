package etcdapi

import (
	"context"
	"hash/crc32"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/authz"
	"reconcile/raftstore"
)

// apiVersion is the version of etcd whose API this is: clients look for features by it.
const (
	apiVersion     = "3.7.3"
	storageVersion = "3.7.0"
)

type maintenanceService struct {
	pb.UnimplementedMaintenanceServer
	s *Server
}

// Status implements etcdserverpb.MaintenanceServer.
func (m maintenanceService) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	store := m.s.cfg.Store
	v, l, st := store.View(), store.Leader(), store.Stats()
	out := &pb.StatusResponse{
		Header: m.s.header(v.Rev()), Version: apiVersion, StorageVersion: storageVersion,
		DbSize: max(st.DiskBytes, 1), DbSizeInUse: max(st.DiskBytes, 1), // clients divide by it
		RaftIndex: st.LastIndex, RaftTerm: l.Term, RaftAppliedIndex: st.AppliedIndex,
	}
	if l.ID == "" {
		out.Errors = append(out.Errors, "etcdserver: no leader")
	} else {
		out.Leader = number(l.ID)
	}
	servers, err := store.Servers()
	if err != nil {
		return nil, status.Error(codes.Unavailable, "etcdserver: "+err.Error())
	}
	for _, sv := range servers {
		if sv.ID == store.Identity().ServerID {
			out.IsLearner = !sv.Voter
		}
	}
	alarms, err := m.s.alarms(ctx, pb.AlarmType_NONE)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "etcdserver: "+err.Error())
	}
	for _, a := range alarms {
		out.Errors = append(out.Errors, alarmText(a))
	}
	return out, nil
}

// Alarm implements etcdserverpb.MaintenanceServer: the alarms of all members, a store that has stopped because it found corrupt data, and a disk
// that has too little room. They end with their cause: there is nothing to disarm.
func (m maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if r.Action == pb.AlarmRequest_ACTIVATE {
		return nil, status.Error(codes.Unimplemented, "etcdserver: alarms follow from the state of the store and are not set from outside")
	}
	alarms, err := m.s.alarms(ctx, r.Alarm)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "etcdserver: "+err.Error())
	}
	return &pb.AlarmResponse{Header: m.s.header(m.s.cfg.Store.View().Rev()), Alarms: alarms}, nil
}

// Defragment implements etcdserverpb.MaintenanceServer: there is nothing to defragment, for the state is in memory.
func (m maintenanceService) Defragment(context.Context, *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	return &pb.DefragmentResponse{Header: m.s.header(m.s.cfg.Store.View().Rev())}, nil
}

// Downgrade implements etcdserverpb.MaintenanceServer.
func (m maintenanceService) Downgrade(context.Context, *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	return nil, status.Error(codes.Unimplemented, "etcdserver: a member is of the version of its program: stop it and start the other one; an older program says if it cannot read the folder")
}

// MoveLeader implements etcdserverpb.MaintenanceServer.
func (m maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := m.s.mastersOnly(ctx, "to move the lead"); err != nil {
		return nil, err
	}
	store := m.s.cfg.Store
	if !store.Leader().Self {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	servers, err := store.Servers()
	if err != nil {
		return nil, status.Error(codes.Unavailable, "etcdserver: "+err.Error())
	}
	i := slices.IndexFunc(servers, func(sv raftstore.Server) bool { return sv.Voter && number(sv.ID) == r.TargetID })
	if i < 0 {
		return nil, rpctypes.ErrGRPCBadLeaderTransferee
	}
	if servers[i].ID != store.Identity().ServerID {
		if err := store.TransferLeadershipTo(ctx, servers[i]); err != nil {
			m.s.cfg.Log.Info("the lead was not moved", "to", servers[i].ID, "error", err)
			return nil, rpctypes.ErrGRPCTimeoutDueToLeaderFail
		}
	}
	return &pb.MoveLeaderResponse{Header: m.s.header(store.View().Rev())}, nil
}

// mastersOnly refuses all others what is a word about every key, or changes how the cluster works.
func (s *Server) mastersOnly(ctx context.Context, what string) error {
	c, err := s.clientOf(ctx)
	if err == nil && !c.masters {
		err = status.Errorf(codes.PermissionDenied, "etcdserver: permission denied: %s is for certificates of %s only", what, authz.GroupMasters)
	}
	return err
}

// Hash implements etcdserverpb.MaintenanceServer. A checksum over everything would let a client try what it guesses of keys that it may not read.
func (m maintenanceService) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	if err := m.s.mastersOnly(ctx, "a checksum of all keys"); err != nil {
		return nil, err
	}
	v := m.s.cfg.Store.View()
	return &pb.HashResponse{Header: m.s.header(v.Rev()), Hash: hashOf(v)}, nil
}

// HashKV implements etcdserverpb.MaintenanceServer: all members give the same for a revision.
func (m maintenanceService) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	if err := m.s.mastersOnly(ctx, "a checksum of all keys"); err != nil {
		return nil, err
	}
	v := m.s.cfg.Store.View()
	at, err := past(v, r.Revision)
	if err != nil {
		return nil, err
	}
	sum := hashOf(at)
	if err := at.Err(); err != nil {
		return nil, historyError(err)
	}
	return &pb.HashKVResponse{Header: m.s.header(v.Rev()), Hash: sum, CompactRevision: int64(v.Floor()), HashRevision: int64(at.Rev())}, nil
}

// hashOf is a checksum over all that a state shows, our own keys too.
func hashOf(v *raftstore.View) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := uint32(0)
	var b []byte
	for r := range v.Range("") {
		b = appendRecord(b[:0], 1, r, false)
		sum = crc32.Update(sum, table, b)
	}
	return sum
}
