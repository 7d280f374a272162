package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/raftstore"
)

// lockService describes etcd's Lock to gRPC.
func (s *Server) lockService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "v3lockpb.Lock", HandlerType: (*any)(nil), Metadata: "v3lock.proto", Methods: []grpc.MethodDesc{
		unary("Lock", s.lock), unary("Unlock", s.unlock),
	}}
}

// Etcd has no codes for these: its server returns plain errors, and clients know them by their texts.
var (
	errSessionExpired = status.Error(codes.Unknown, "mutex: session is expired")
	errNotElected     = status.Error(codes.Unknown, "election: not leader")
	errNoneElected    = status.Error(codes.Unknown, "election: no leader")
	errLeaderMissing  = status.Error(codes.Unknown, `"leader" field must be provided`)
)

// sessionTTL is the TTL in seconds of the lease of one who names none: etcd's.
const sessionTTL = 60

// giveUpTimeout bounds the clean-up of one who waits no longer.
const giveUpTimeout = 5 * time.Second

// place is a place in a queue: a key that hangs on a lease. Who made the oldest key of a prefix holds the lock, or is elected; the revision at which it
// was made, rev, is the fencing token: whoever holds the lock later has a greater one.
type place struct {
	prefix, key string
	rev         uint64
	lease       int64
	// made tells that it was taken now; else the lease had it before, and keeps it whatever comes of this call.
	made bool
}

// enter takes a place in the queue of a name, or finds the one that the lease has already; then have is its value.
func (s *Server) enter(ctx context.Context, c client, name []byte, lease int64, value []byte) (p place, have []byte, err error) {
	p = place{prefix: string(name) + "/", lease: lease}
	if err := c.mayRead(raftstore.Prefix(p.prefix)); err != nil {
		return p, nil, err
	}
	if p.lease == 0 {
		if p.lease, err = s.grantSession(ctx); err != nil {
			return p, nil, err
		}
	}
	p.key = fmt.Sprintf("%s%x", p.prefix, p.lease)
	a, err := s.ask(ctx, c, &pb.TxnRequest{
		Compare: []*pb.Compare{madeAt(p.key, 0)},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte(p.key), Value: value, Lease: p.lease})},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(p.key)}}}},
	})
	if err != nil {
		return p, nil, err
	}
	p.rev = a.rev
	m := a.msg.(*pb.TxnResponse)
	if p.made = m.Succeeded; !p.made {
		kvs := m.Responses[0].GetResponseRange().GetKvs()
		if len(kvs) == 0 {
			return p, nil, errSessionExpired
		}
		p.rev, have = uint64(kvs[0].CreateRevision), kvs[0].Value
	}
	// What follows is read from this member's state.
	if err := s.cfg.Store.WaitRev(ctx, a.rev); err != nil {
		s.giveUp(ctx, c, p)
		return p, nil, submitError(ctx, err)
	}
	return p, have, nil
}

// grantSession makes a lease for one who names none.
func (s *Server) grantSession(ctx context.Context) (int64, error) {
	r, err := leaseService{s: s}.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: sessionTTL})
	if err != nil {
		return 0, err
	}
	return r.ID, nil
}

// madeAt is the condition that a key was made at a revision, 0 if it is not there.
func madeAt(key string, rev uint64) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: int64(rev)}}
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func deleteOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

// ask commits a transaction with the client's rights.
func (s *Server) ask(ctx context.Context, c client, r *pb.TxnRequest) (*answer, error) {
	if err := c.checkTxn(r); err != nil {
		return nil, err
	}
	return s.submit(ctx, kindTxn, r)
}

// await returns when everybody who was before a place has gone, with the revision of a state that shows it and the place still there. If it does not come
// to that, the place is given up.
func (s *Server) await(ctx context.Context, c client, p place) (rev uint64, err error) {
	for err == nil {
		var ahead string
		v := s.cfg.Store.View()
		if rec, ok := v.Get(p.key); !ok || rec.CreateRev != p.rev {
			return 0, errSessionExpired
		}
		if ahead = s.ahead(v, p); ahead == "" {
			break
		}
		err = s.awaitGone(ctx, p, ahead, v.Rev())
	}
	if err == nil {
		// Nobody comes before it any more; but has it gone meanwhile, as the newest state of all knows?
		var v *raftstore.View
		if v, err = s.view(ctx, false); err == nil {
			if rec, ok := v.Get(p.key); !ok || rec.CreateRev != p.rev {
				return 0, errSessionExpired
			}
			return v.Rev(), nil
		}
	}
	s.giveUp(ctx, c, p)
	return 0, err
}

// ahead is the key of who is next before a place, "" if it is the first.
func (s *Server) ahead(v *raftstore.View, p place) (key string) {
	rev := uint64(0)
	for _, sp := range shown(raftstore.Prefix(p.prefix)) {
		for r := range v.RangeFrom("", sp.From) {
			if !sp.Contains(r.Key) {
				break
			}
			if r.CreateRev < p.rev && r.CreateRev > rev {
				key, rev = r.Key, r.CreateRev
			}
		}
	}
	return key
}

// awaitGone returns when a key has been deleted after a revision, or when the place itself has.
func (s *Server) awaitGone(ctx context.Context, p place, key string, after uint64) error {
	w, err := s.cfg.Store.WatchSpan(raftstore.Prefix(p.prefix), after)
	for err == nil {
		var events []*raftstore.Event
		events, _, err = w.Next(ctx)
		for _, e := range events {
			if e.Deleted && (e.Key == key || e.Key == p.key) {
				return nil
			}
		}
	}
	switch {
	case errors.Is(err, raftstore.ErrCompacted):
		return nil // look again
	case ctx.Err() != nil:
		return contextError(ctx)
	}
	return rpctypes.ErrGRPCStopped
}

// giveUp takes a place out of the queue for one who waits no longer. If that fails, it goes with its lease.
func (s *Server) giveUp(ctx context.Context, c client, p place) {
	if !p.made || s.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpTimeout)
	defer cancel()
	_, err := s.ask(ctx, c, &pb.TxnRequest{Compare: []*pb.Compare{madeAt(p.key, p.rev)}, Success: []*pb.RequestOp{deleteOp(p.key)}})
	if err != nil {
		s.cfg.Log.Debug("a place in a queue goes with its lease only", "key", p.key, "error", err)
	}
}

// lock is v3lockpb.Lock.Lock: it returns when the lock is held by the lease, with the key that stands for it.
func (s *Server) lock(ctx context.Context, c client, r *lockRequest) (any, error) {
	p, _, err := s.enter(ctx, c, r.name, r.lease, nil)
	if err != nil {
		return nil, err
	}
	rev, err := s.await(ctx, c, p)
	if err != nil {
		return nil, err
	}
	return answerFrame(s.header(rev), []byte(p.key)), nil
}

// unlock is v3lockpb.Lock.Unlock: it deletes the key of a lock.
func (s *Server) unlock(ctx context.Context, c client, r *unlockRequest) (any, error) {
	d := &pb.DeleteRangeRequest{Key: r.key}
	if err := c.checkDelete(d); err != nil {
		return nil, err
	}
	a, err := s.submit(ctx, kindDelete, d)
	if err != nil {
		return nil, err
	}
	return answerFrame(s.header(a.rev), nil), nil
}
