package etcdapi

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"reconcile/raftstore"
)

// frame is a message that is encoded already, in pieces that may be shared by many streams: nobody changes them.
type frame mem.BufferSlice

// codec is gRPC's protobuf codec that also takes frames. Ranges, puts and events are most of the work of a server, and are encoded by hand
// here, straight from the records: a range of 10,000 keys costs a quarter of what its messages would.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(frame); ok {
		return mem.BufferSlice(f), nil
	}
	b, err := c.CodecV2.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode a message: %w", err)
	}
	return b, nil
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(message); ok {
		return readMessage(m, data.Materialize())
	}
	return c.CodecV2.Unmarshal(data, v)
}

// The numbers of the fields that are encoded here (etcdserverpb/rpc.proto, mvccpb/kv.proto).
const (
	fieldHeader = 1

	fieldRangeKvs, fieldRangeMore, fieldRangeCount = 2, 3, 4
	fieldPrevKv                                    = 2

	fieldKey, fieldCreate, fieldMod, fieldVersion, fieldValue, fieldLease = 1, 2, 3, 4, 5, 6

	fieldEventType, fieldEventKv, fieldEventPrev = 1, 2, 3

	fieldWatchID, fieldFragment, fieldEvents = 2, 7, 11
)

func appendInt(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func sizeInt(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func appendBytes[T []byte | string](b []byte, field protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

// appendHeader appends a response header as the message's first field.
func appendHeader(b []byte, h *pb.ResponseHeader) []byte {
	return appendHeaderFields(b, h.ClusterId, h.MemberId, uint64(h.Revision), h.RaftTerm)
}

func appendHeaderFields(b []byte, cluster, member, revision, term uint64) []byte {
	n := sizeInt(cluster) + sizeInt(member) + sizeInt(revision) + sizeInt(term)
	b = protowire.AppendVarint(protowire.AppendTag(b, fieldHeader, protowire.BytesType), uint64(n))
	b = appendInt(b, 1, cluster)
	b = appendInt(b, 2, member)
	b = appendInt(b, 3, revision)
	return appendInt(b, 4, term)
}

func sizeRecord(r *raftstore.Record, keysOnly bool) int {
	n := sizeBytes(len(r.Key)) + sizeInt(r.CreateRev) + sizeInt(r.ModRev) + sizeInt(r.Version) + sizeInt(uint64(r.Lease))
	if !keysOnly {
		n += sizeBytes(len(r.Value))
	}
	return n
}

// appendRecord appends a record as a KeyValue in a field. A deletion has its key and revision only, as in etcd.
func appendRecord(b []byte, field protowire.Number, r *raftstore.Record, keysOnly bool) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(sizeRecord(r, keysOnly)))
	return appendFields(b, r, keysOnly)
}

// appendKeyValue appends a record as a KeyValue of its own.
func appendKeyValue(b []byte, r *raftstore.Record) []byte { return appendFields(b, r, false) }

func appendFields(b []byte, r *raftstore.Record, keysOnly bool) []byte {
	b = appendBytes(b, fieldKey, r.Key)
	b = appendInt(b, fieldCreate, r.CreateRev)
	b = appendInt(b, fieldMod, r.ModRev)
	b = appendInt(b, fieldVersion, r.Version)
	if !keysOnly {
		b = appendBytes(b, fieldValue, r.Value)
	}
	return appendInt(b, fieldLease, uint64(r.Lease))
}

// rangeFrame is a RangeResponse. end tells that it is the last piece, which alone carries header, more and count.
func rangeFrame(h *pb.ResponseHeader, s selection, keysOnly, end bool) []byte {
	n := 64
	for _, r := range s.records {
		n += 1 + protowire.SizeBytes(sizeRecord(r, keysOnly))
	}
	b := make([]byte, 0, n)
	if end {
		b = appendHeader(b, h)
	}
	for _, r := range s.records {
		b = appendRecord(b, fieldRangeKvs, r, keysOnly)
	}
	if end {
		if s.more {
			b = appendInt(b, fieldRangeMore, 1)
		}
		b = appendInt(b, fieldRangeCount, uint64(s.count))
	}
	return b
}

// putFrame is a PutResponse.
func putFrame(h *pb.ResponseHeader) frame {
	return frame{mem.SliceBuffer(appendHeader(make([]byte, 0, 48), h))}
}

// eventBody is an Event without the version before, for Event.Encoded: all watches send the same bytes.
func eventBody(e *raftstore.Event) []byte {
	n := 1 + protowire.SizeBytes(sizeRecord(e.Rec, false))
	b := make([]byte, 0, n+2)
	if e.Deleted {
		b = appendInt(b, fieldEventType, 1)
	}
	return appendRecord(b, fieldEventKv, e.Rec, false)
}

// appendEvent appends an event to the pieces of a WatchResponse, and returns how many bytes it takes. The small pieces before bodies go into
// glue, whose room must have been made beforehand.
func appendEvent(out frame, glue []byte, e *raftstore.Event, prev bool) (frame, []byte, int) {
	body := e.Encoded(eventBody)
	n := len(body)
	withPrev := prev && e.Prev != nil
	if withPrev {
		n += 1 + protowire.SizeBytes(sizeRecord(e.Prev, false))
	}
	at := len(glue)
	glue = protowire.AppendVarint(protowire.AppendTag(glue, fieldEvents, protowire.BytesType), uint64(n))
	out = append(out, mem.SliceBuffer(glue[at:]), mem.SliceBuffer(body))
	if withPrev {
		out = append(out, mem.SliceBuffer(appendRecord(nil, fieldEventPrev, e.Prev, false)))
	}
	return out, glue, n
}
