package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"reconcile/raftstore"
	"reconcile/sequencer"
)

// kvService describes etcd's KV to gRPC. The generated description would insist on messages as answers.
func (s *Server) kvService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "etcdserverpb.KV",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			unary("Range", s.rangeKeys),
			unary("Put", s.put),
			unary("DeleteRange", s.deleteRange),
			unary("Txn", s.txn),
			unary("Compact", s.compact),
		},
		Streams:  []grpc.StreamDesc{{StreamName: "RangeStream", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error { return s.rangeStream(stream) }}},
		Metadata: "rpc.proto",
	}
}

// unary is a method that takes a message and returns a message or a frame.
func unary[Req any](name string, f func(context.Context, client, *Req) (any, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		req := new(Req)
		if err := dec(req); err != nil {
			return nil, err
		}
		c, err := srv.(*Server).clientOf(ctx)
		if err != nil {
			return nil, err
		}
		return f(ctx, c, req)
	}}
}

// header is a response's header, for a revision.
func (s *Server) header(rev uint64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: s.clusterID, MemberId: s.memberID, Revision: int64(rev), RaftTerm: s.term.Load()}
}

// view is a state to read from: linearizable, unless the request does not need it.
func (s *Server) view(ctx context.Context, serializable bool) (*raftstore.View, error) {
	if !serializable && !mutantStaleRead {
		if err := s.reads.wait(ctx); err != nil {
			return nil, err
		}
	}
	return s.cfg.Store.View(), nil
}

func (s *Server) selectKeys(ctx context.Context, c client, r *pb.RangeRequest) (selection, *raftstore.View, error) {
	if err := c.checkRange(r); err != nil {
		return selection{}, nil, err
	}
	v, err := s.view(ctx, r.Serializable)
	if err != nil {
		return selection{}, nil, err
	}
	at, err := past(v, r.Revision)
	if err != nil {
		return selection{}, nil, err
	}
	found, err := find(viewSource{at}, r)
	return found, v, err
}

func (s *Server) rangeKeys(ctx context.Context, c client, r *pb.RangeRequest) (any, error) {
	found, v, err := s.selectKeys(ctx, c, r)
	if err != nil {
		return nil, err
	}
	return frame{mem.SliceBuffer(rangeFrame(s.header(v.Rev()), found, r.KeysOnly, true))}, nil
}

// chunkKeys and chunkBytes are about how much one message of a range stream holds.
const (
	chunkKeys  = 1000
	chunkBytes = 1 << 20
)

// rangeStream answers a range in pieces; header, more and count stand in the last one.
func (s *Server) rangeStream(stream grpc.ServerStream) error {
	r := new(pb.RangeRequest)
	if err := stream.RecvMsg(r); err != nil {
		return err
	}
	c, err := s.clientOf(stream.Context())
	if err != nil {
		return err
	}
	if r.SortTarget != pb.RangeRequest_KEY || r.SortOrder == pb.RangeRequest_DESCEND {
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	if filter(r) != nil {
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	found, v, err := s.selectKeys(stream.Context(), c, r)
	if err != nil {
		return err
	}
	h := s.header(v.Rev())
	for {
		n, size := 0, 0
		for n < len(found.records) && n < chunkKeys && size < chunkBytes {
			size += sizeRecord(found.records[n], r.KeysOnly)
			n++
		}
		part := found
		part.records, found.records = found.records[:n], found.records[n:]
		end := len(found.records) == 0
		body := rangeFrame(h, part, r.KeysOnly, end)
		head := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), uint64(len(body)))
		if err := stream.SendMsg(frame{mem.SliceBuffer(head), mem.SliceBuffer(body)}); err != nil {
			return err
		}
		if end {
			return nil
		}
	}
}

// submit sends a checked write to the sequencer.
func (s *Server) submit(ctx context.Context, k kind, m proto.Message) (*answer, error) {
	w := &write{kind: k, msg: m, objects: s.cfg.Objects}
	if w.Size() > maxRequest {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	out, err := s.cfg.Sequencer.SubmitTxn(ctx, w)
	if err != nil {
		return nil, submitError(ctx, err)
	}
	a, ok := out.(*answer)
	if !ok {
		return nil, status.Errorf(codes.Internal, "etcdserver: the answer is a %T", out)
	}
	return a, a.err
}

func (s *Server) put(ctx context.Context, c client, r *pb.PutRequest) (any, error) {
	if err := c.checkPut(r); err != nil {
		return nil, err
	}
	a, err := s.submit(ctx, kindPut, r)
	if err != nil {
		return nil, err
	}
	m := a.msg.(*pb.PutResponse)
	if m.PrevKv == nil {
		return putFrame(s.header(a.rev)), nil
	}
	m.Header = s.header(a.rev)
	return m, nil
}

func (s *Server) deleteRange(ctx context.Context, c client, r *pb.DeleteRangeRequest) (any, error) {
	if err := c.checkDelete(r); err != nil {
		return nil, err
	}
	a, err := s.submit(ctx, kindDelete, r)
	if err != nil {
		return nil, err
	}
	m := a.msg.(*pb.DeleteRangeResponse)
	m.Header = s.header(a.rev)
	return m, nil
}

// txn commits a transaction. One that only reads is no entry: it is decided on a view behind a read index.
func (s *Server) txn(ctx context.Context, c client, r *pb.TxnRequest) (any, error) {
	if err := c.checkTxn(r); err != nil {
		return nil, err
	}
	var a *answer
	if readOnly(r) {
		v, err := s.view(ctx, serializable(r))
		if err != nil {
			return nil, err
		}
		out, _ := (&write{kind: kindTxn, msg: r, reads: true}).Decide(sequencer.ReadKV(v))
		if a = out.(*answer); a.err != nil {
			return nil, a.err
		}
	} else {
		var err error
		if a, err = s.submit(ctx, kindTxn, r); err != nil {
			return nil, err
		}
	}
	m := a.msg.(*pb.TxnResponse)
	m.Header = s.header(a.rev)
	return m, nil
}

// serializable tells whether all that a transaction reads may be old: etcd asks that of every range and of no comparison.
func serializable(r *pb.TxnRequest) bool {
	for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range list {
			if g := op.GetRequestRange(); g == nil || !g.Serializable {
				return false
			}
		}
	}
	return true
}

func (s *Server) compact(ctx context.Context, c client, r *pb.CompactionRequest) (any, error) {
	if !c.masters {
		return nil, errNoCompaction
	}
	a, err := s.submit(ctx, kindCompact, r)
	if err != nil {
		return nil, err
	}
	m := a.msg.(*pb.CompactionResponse)
	m.Header = s.header(a.rev)
	return m, nil
}
