package etcdapi

import (
	"bytes"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"reconcile/raftstore"
)

// electionService describes etcd's Election to gRPC.
func (s *Server) electionService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "v3electionpb.Election", HandlerType: (*any)(nil), Metadata: "v3election.proto",
		Methods: []grpc.MethodDesc{unary("Campaign", s.campaign), unary("Proclaim", s.proclaim), unary("Leader", s.elected), unary("Resign", s.resign)},
		Streams: []grpc.StreamDesc{{StreamName: "Observe", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error { return s.observe(stream) }}},
	}
}

// campaign is v3electionpb.Election.Campaign: it returns when the lease's candidate is elected.
func (s *Server) campaign(ctx context.Context, c client, r *campaignRequest) (any, error) {
	p, have, err := s.enter(ctx, c, r.name, r.lease, r.value)
	if err != nil {
		return nil, err
	}
	if !p.made && !bytes.Equal(have, r.value) {
		if _, err := s.setValue(ctx, c, &leaderKey{key: []byte(p.key), rev: int64(p.rev), lease: p.lease}, r.value); err != nil {
			return nil, err
		}
	}
	rev, err := s.await(ctx, c, p)
	if err != nil {
		return nil, err
	}
	k := leaderKey{name: r.name, key: []byte(p.key), rev: int64(p.rev), lease: p.lease}
	return answerFrame(s.header(rev), k.appendTo(nil)), nil
}

// setValue gives a candidate a new value, if its key is still the one of its campaign.
func (s *Server) setValue(ctx context.Context, c client, k *leaderKey, value []byte) (*answer, error) {
	a, err := s.ask(ctx, c, &pb.TxnRequest{
		Compare: []*pb.Compare{madeAt(string(k.key), uint64(k.rev))},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: k.key, Value: value, Lease: k.lease})},
	})
	if err == nil && !a.msg.(*pb.TxnResponse).Succeeded {
		err = errNotElected
	}
	return a, err
}

// proclaim is v3electionpb.Election.Proclaim: a new value of the one who is elected, without another election.
func (s *Server) proclaim(ctx context.Context, c client, r *holderRequest) (any, error) {
	if r.leader == nil {
		return nil, errLeaderMissing
	}
	a, err := s.setValue(ctx, c, r.leader, r.value)
	if err != nil {
		return nil, err
	}
	return answerFrame(s.header(a.rev), nil), nil
}

// resign is v3electionpb.Election.Resign: the next one is elected. Who is not elected any more has nothing to resign from.
func (s *Server) resign(ctx context.Context, c client, r *holderRequest) (any, error) {
	if r.leader == nil {
		return nil, errLeaderMissing
	}
	key := string(r.leader.key)
	a, err := s.ask(ctx, c, &pb.TxnRequest{Compare: []*pb.Compare{madeAt(key, uint64(r.leader.rev))}, Success: []*pb.RequestOp{deleteOp(key)}})
	if err != nil {
		return nil, err
	}
	return answerFrame(s.header(a.rev), nil), nil
}

// oldest is who is elected: the record of a prefix that was made first, or nil.
func oldest(v *raftstore.View, prefix string) (first *raftstore.Record) {
	for _, sp := range shown(raftstore.Prefix(prefix)) {
		for r := range v.RangeFrom("", sp.From) {
			if !sp.Contains(r.Key) {
				break
			}
			if first == nil || r.CreateRev < first.CreateRev {
				first = r
			}
		}
	}
	return first
}

// elected is v3electionpb.Election.Leader.
func (s *Server) elected(ctx context.Context, c client, r *leaderRequest) (any, error) {
	prefix := string(r.name) + "/"
	if err := c.mayRead(raftstore.Prefix(prefix)); err != nil {
		return nil, err
	}
	v, err := s.view(ctx, false)
	if err != nil {
		return nil, err
	}
	rec := oldest(v, prefix)
	if rec == nil {
		return nil, errNoneElected
	}
	return leaderFrame(s.header(v.Rev()), rec), nil
}

// observe is v3electionpb.Election.Observe: who is elected now, and then each one that is, and each value that one proclaims, in order.
func (s *Server) observe(stream grpc.ServerStream) error {
	r := new(leaderRequest)
	if err := stream.RecvMsg(r); err != nil {
		return err
	}
	ctx := stream.Context()
	c, err := s.clientOf(ctx)
	if err != nil {
		return err
	}
	o := &observer{s: s, prefix: string(r.name) + "/", send: stream.SendMsg}
	if err := c.mayRead(raftstore.Prefix(o.prefix)); err != nil {
		return err
	}
	v, err := s.view(ctx, false)
	for err == nil {
		err = o.follow(ctx, v)
		if errors.Is(err, raftstore.ErrCompacted) { // so slow that what it has not seen is gone: it goes on with what is
			v, err = s.cfg.Store.View(), nil
		}
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if errors.Is(err, raftstore.ErrStopped) {
		return rpctypes.ErrGRPCStopped
	}
	return err
}

// observer follows one election.
type observer struct {
	s      *Server
	prefix string
	send   func(any) error
	// leader is the key of who is elected, "" if nobody is; told and value are the key of the last value that was sent, and its revision.
	leader, told string
	value        uint64
}

// follow tells what the view shows and all that comes after it.
func (o *observer) follow(ctx context.Context, v *raftstore.View) error {
	if err := o.elect(v, v.Rev()); err != nil {
		return err
	}
	w, err := o.s.cfg.Store.WatchSpan(raftstore.Prefix(o.prefix), v.Rev())
	if err != nil {
		return err
	}
	for {
		events, _, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := o.event(e); err != nil {
				return err
			}
		}
	}
}

func (o *observer) event(e *raftstore.Event) error {
	switch {
	case e.Key == o.leader && !e.Deleted:
		return o.tell(e.Rec, e.Rev)
	case e.Key != o.leader && o.leader != "":
		return nil // a candidate came or went
	}
	at, err := o.s.cfg.Store.View().At(e.Rev)
	if err != nil {
		return err
	}
	if err := o.elect(at, e.Rev); err != nil {
		return err
	}
	return at.Err()
}

// elect finds who is elected in a state, and tells it.
func (o *observer) elect(v *raftstore.View, rev uint64) error {
	rec := oldest(v, o.prefix)
	if rec == nil {
		o.leader = ""
		return nil
	}
	o.leader = rec.Key
	return o.tell(rec, rev)
}

func (o *observer) tell(rec *raftstore.Record, rev uint64) error {
	if rec.Key == o.told && rec.ModRev == o.value {
		return nil
	}
	o.told, o.value = rec.Key, rec.ModRev
	return o.send(leaderFrame(o.s.header(rev), rec))
}
