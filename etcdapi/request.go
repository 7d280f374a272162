package etcdapi

import (
	"encoding/binary"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"reconcile/sequencer"
)

// kind names the requests that write, in the forwarded encoding: its numbers must stay.
type kind byte

const (
	kindPut kind = 1 + iota
	kindDelete
	kindTxn
	kindGrant
	kindRevoke
	kindCompact
)

// request and response make an empty message of a kind.
func (k kind) request() proto.Message {
	switch k {
	case kindPut:
		return &pb.PutRequest{}
	case kindDelete:
		return &pb.DeleteRangeRequest{}
	case kindTxn:
		return &pb.TxnRequest{}
	case kindGrant:
		return &pb.LeaseGrantRequest{}
	case kindRevoke:
		return &pb.LeaseRevokeRequest{}
	case kindCompact:
		return &pb.CompactionRequest{}
	}
	return nil
}

func (k kind) response() proto.Message {
	switch k {
	case kindPut:
		return &pb.PutResponse{}
	case kindDelete:
		return &pb.DeleteRangeResponse{}
	case kindTxn:
		return &pb.TxnResponse{}
	case kindGrant:
		return &pb.LeaseGrantResponse{}
	case kindRevoke:
		return &pb.LeaseRevokeResponse{}
	case kindCompact:
		return &pb.CompactionResponse{}
	}
	return nil
}

// write is a checked request that writes: a sequencer.Txn. Forwarded it is a kind and the request's own encoding.
type write struct {
	kind kind
	msg  proto.Message
	// objects tells that values below /registry are objects (Codec.Objects).
	objects bool
	// reads tells that it is a transaction that only reads, and keeps nobody waiting.
	reads bool
}

// AppendTo implements sequencer.Txn.
func (w *write) AppendTo(b []byte) []byte {
	return appendMessage(append(b, byte(w.kind)), w.msg)
}

// Size implements sequencer.Txn.
func (w *write) Size() int {
	if p, ok := w.msg.(*pb.PutRequest); ok {
		return len(p.Key) + len(p.Value) + 32
	}
	return proto.Size(w.msg)
}

// appendMessage appends a message's encoding. Ours cannot fail: they hold no strings that a client gave and no required fields.
func appendMessage(b []byte, m proto.Message) []byte {
	out, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return b
	}
	return out
}

// answer is what a write comes to: a response without its header, or an error with a gRPC status. Forwarded it is
//
//	kind u8 | revision uvarint | gRPC code uvarint | the response, or the error's text
type answer struct {
	kind kind
	rev  uint64
	err  error
	msg  proto.Message
}

// AppendTo implements sequencer.Answer.
func (a *answer) AppendTo(b []byte) []byte {
	b = binary.AppendUvarint(append(b, byte(a.kind)), a.rev)
	if a.err != nil {
		st, _ := status.FromError(a.err)
		return append(binary.AppendUvarint(b, uint64(st.Code())), st.Message()...)
	}
	return appendMessage(binary.AppendUvarint(b, 0), a.msg)
}

// Codec reads forwarded requests and answers: it is sequencer.Config.Txns.
type Codec struct {
	// Objects tells that values below /registry are the cluster's objects: others are refused there, and objects get their revision.
	Objects bool
}

// Txn implements sequencer.TxnCodec.
func (c Codec) Txn(body []byte) (sequencer.Txn, error) {
	if len(body) == 0 {
		return nil, errors.New("the request is empty")
	}
	w := &write{kind: kind(body[0]), objects: c.Objects}
	if w.msg = w.kind.request(); w.msg == nil {
		return nil, fmt.Errorf("the request has the unknown kind %d", body[0])
	}
	if err := proto.Unmarshal(body[1:], w.msg); err != nil {
		return nil, fmt.Errorf("read a forwarded request: %w", err)
	}
	return w, nil
}

// Answer implements sequencer.TxnCodec.
func (Codec) Answer(body []byte) (sequencer.Answer, error) {
	if len(body) < 3 {
		return nil, errors.New("the answer is cut short")
	}
	a := &answer{kind: kind(body[0])}
	rev, n := binary.Uvarint(body[1:])
	if n <= 0 {
		return nil, errors.New("the answer is cut short")
	}
	body = body[1+n:]
	code, n := binary.Uvarint(body)
	if n <= 0 {
		return nil, errors.New("the answer is cut short")
	}
	a.rev, body = rev, body[n:]
	if code != 0 {
		a.err = status.Error(codes.Code(code), string(body))
		return a, nil
	}
	if a.msg = a.kind.response(); a.msg == nil {
		return nil, fmt.Errorf("the answer has the unknown kind %d", a.kind)
	}
	if err := proto.Unmarshal(body, a.msg); err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	return a, nil
}
