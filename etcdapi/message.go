package etcdapi

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"reconcile/raftstore"
)

// The messages of etcd's Lock and Election, read and written by hand: their generated code is part of etcd's server, with all that it depends on. The
// layouts are those of v3lockpb/v3lock.proto and v3electionpb/v3election.proto.

// message is one that is read by hand.
type message interface {
	// field takes a field of the message; v is a number's value, b the bytes of anything else, which may be kept.
	field(n protowire.Number, v uint64, b []byte) error
}

// readMessage reads a message field by field. Of fields that come twice the last one counts, what is unknown is passed over.
func readMessage(m message, b []byte) error {
	for len(b) > 0 {
		n, kind, l := protowire.ConsumeTag(b)
		if l < 0 {
			return fmt.Errorf("read a message: %w", protowire.ParseError(l))
		}
		b = b[l:]
		var v uint64
		var body []byte
		switch kind {
		case protowire.VarintType:
			v, l = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			body, l = protowire.ConsumeBytes(b)
		default:
			n, l = 0, protowire.ConsumeFieldValue(n, kind, b)
		}
		if l < 0 {
			return fmt.Errorf("read a message: %w", protowire.ParseError(l))
		}
		b = b[l:]
		if err := m.field(n, v, body); err != nil {
			return err
		}
	}
	return nil
}

// lockRequest is v3lockpb.LockRequest.
type lockRequest struct {
	name  []byte
	lease int64
}

func (r *lockRequest) field(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 1:
		r.name = b
	case 2:
		r.lease = int64(v)
	}
	return nil
}

// unlockRequest is v3lockpb.UnlockRequest.
type unlockRequest struct{ key []byte }

func (r *unlockRequest) field(n protowire.Number, _ uint64, b []byte) error {
	if n == 1 {
		r.key = b
	}
	return nil
}

// campaignRequest is v3electionpb.CampaignRequest.
type campaignRequest struct {
	name, value []byte
	lease       int64
}

func (r *campaignRequest) field(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 1:
		r.name = b
	case 2:
		r.lease = int64(v)
	case 3:
		r.value = b
	}
	return nil
}

// leaderKey is v3electionpb.LeaderKey: how somebody who was elected proves it. rev is the revision at which the key was made, the fencing token.
type leaderKey struct {
	name, key  []byte
	rev, lease int64
}

func (k *leaderKey) field(n protowire.Number, v uint64, b []byte) error {
	switch n {
	case 1:
		k.name = b
	case 2:
		k.key = b
	case 3:
		k.rev = int64(v)
	case 4:
		k.lease = int64(v)
	}
	return nil
}

func (k *leaderKey) appendTo(b []byte) []byte {
	b = appendBytes(b, 1, k.name)
	b = appendBytes(b, 2, k.key)
	b = appendInt(b, 3, uint64(k.rev))
	return appendInt(b, 4, uint64(k.lease))
}

// holderRequest is v3electionpb.ProclaimRequest, and ResignRequest, which has no value.
type holderRequest struct {
	leader *leaderKey
	value  []byte
}

func (r *holderRequest) field(n protowire.Number, _ uint64, b []byte) error {
	switch n {
	case 1:
		r.leader = &leaderKey{}
		return readMessage(r.leader, b)
	case 2:
		r.value = b
	}
	return nil
}

// leaderRequest is v3electionpb.LeaderRequest.
type leaderRequest struct{ name []byte }

func (r *leaderRequest) field(n protowire.Number, _ uint64, b []byte) error {
	if n == 1 {
		r.name = b
	}
	return nil
}

// bodyField is the second field of the answers: the key of a lock, the LeaderKey of a campaign, the KeyValue of a leader.
const bodyField = 2

// answerFrame is an answer of Lock or Election: a header, and what follows it.
func answerFrame(h *pb.ResponseHeader, body []byte) frame {
	return frame{mem.SliceBuffer(appendBytes(appendHeader(nil, h), bodyField, body))}
}

// leaderFrame is v3electionpb.LeaderResponse.
func leaderFrame(h *pb.ResponseHeader, r *raftstore.Record) frame {
	return answerFrame(h, appendKeyValue(nil, r))
}
