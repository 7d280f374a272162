package etcdapi

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// Decide implements sequencer.Txn: what the request means on the state that all before it have made.
func (w *write) Decide(kv *sequencer.KV) (sequencer.Answer, bool) {
	d := decision{kv: kv, objects: w.objects, most: w.most()}
	a := &answer{kind: w.kind}
	switch m := w.msg.(type) {
	case *pb.PutRequest:
		if mutantLostWrite && crc32.ChecksumIEEE(m.Value)%50 == 0 {
			a.msg, a.rev = &pb.PutResponse{}, kv.Rev()+1
			return a, true
		}
		if a.err = d.checkPut(m); a.err == nil {
			a.msg = d.put(m)
		}
	case *pb.DeleteRangeRequest:
		a.msg = d.remove(m)
	case *pb.TxnRequest:
		a.msg, a.err = d.run(m)
	case *pb.LeaseGrantRequest:
		a.msg, a.err = d.grant(m)
	case *pb.LeaseRevokeRequest:
		a.msg, a.err = d.revoke(m)
	case *pb.CompactionRequest:
		a.msg, a.err = d.compact(m)
	}
	a.rev = kv.Rev()
	return a, a.err == nil
}

// decision performs one request on a state. What it must not do has been refused before it came here (check.go), what depends on the state is
// refused before the first write.
type decision struct {
	kv      *sequencer.KV
	objects bool
	// most is how many keys it may walk.
	most int
	// err is why a read of a transaction found no answer: it fails as a whole then, and what it has written is taken back.
	err error
}

// maxWalk is how many keys the ranges, comparisons and deletions of a transaction that writes may walk, all together: it runs in the one goroutine
// that decides every write of the cluster, and one of 128 ranges over everything would hold up all others for seconds.
const maxWalk = 1 << 18

// errTooFar refuses the transaction.
var errTooFar = status.Errorf(codes.ResourceExhausted, "etcdserver: the transaction's ranges, comparisons and deletions walk more than %d keys: narrow them, or read them before in a transaction that writes nothing", maxWalk)

// most is how many keys a request may walk while others wait. A deletion of its own is as long as what it deletes.
func (w *write) most() int {
	if w.kind == kindTxn && !w.reads {
		return maxWalk
	}
	return math.MaxInt
}

// tired tells whether a decision has walked too far, which ends it.
func (d *decision) tired() bool {
	if d.kv.Walked() > d.most {
		d.err = errTooFar
	}
	return d.err != nil
}

// run performs a transaction.
func (d *decision) run(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	paths := map[*pb.TxnRequest]bool{}
	d.choose(r, paths)
	if d.err != nil {
		return nil, d.err
	}
	if err := d.checkPath(r, paths); err != nil {
		return nil, err
	}
	out := d.perform(r, paths)
	return out, d.err
}

// choose compares, for the transaction and all nested ones, before anything is written, as etcd does.
func (d *decision) choose(r *pb.TxnRequest, paths map[*pb.TxnRequest]bool) {
	ok := true
	for _, c := range r.Compare {
		ok = ok && d.compare(c)
	}
	paths[r] = ok
	for _, op := range branch(r, ok) {
		if t := op.GetRequestTxn(); t != nil {
			d.choose(t, paths)
		}
	}
}

func branch(r *pb.TxnRequest, ok bool) []*pb.RequestOp {
	if ok {
		return r.Success
	}
	return r.Failure
}

// checkPath finds what a write or read of the chosen branches must fail for.
func (d *decision) checkPath(r *pb.TxnRequest, paths map[*pb.TxnRequest]bool) error {
	for _, op := range branch(r, paths[r]) {
		var err error
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			err = d.checkPut(op.RequestPut)
		case *pb.RequestOp_RequestRange:
			_, err = d.at(op.RequestRange)
		case *pb.RequestOp_RequestTxn:
			err = d.checkPath(op.RequestTxn, paths)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *decision) perform(r *pb.TxnRequest, paths map[*pb.TxnRequest]bool) *pb.TxnResponse {
	out := &pb.TxnResponse{Succeeded: paths[r]}
	for _, op := range branch(r, paths[r]) {
		if d.err != nil {
			return out // all of it is taken back
		}
		res := &pb.ResponseOp{}
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			p := d.put(op.RequestPut)
			p.Header = d.header()
			res.Response = &pb.ResponseOp_ResponsePut{ResponsePut: p}
		case *pb.RequestOp_RequestDeleteRange:
			p := d.remove(op.RequestDeleteRange)
			p.Header = d.header()
			res.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: p}
		case *pb.RequestOp_RequestRange:
			res.Response = &pb.ResponseOp_ResponseRange{ResponseRange: d.lookup(op.RequestRange)}
		case *pb.RequestOp_RequestTxn:
			p := d.perform(op.RequestTxn, paths)
			p.Header = d.header()
			res.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: p}
		}
		out.Responses = append(out.Responses, res)
	}
	return out
}

// header is that of a nested answer: etcd fills the revision only.
func (d *decision) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: int64(d.kv.Rev())}
}

// at is the state that a range inside a transaction reads.
func (d *decision) at(r *pb.RangeRequest) (source, error) {
	if r.Revision <= 0 || uint64(r.Revision) == d.kv.Rev() {
		return headSource{d.kv, d.most}, nil
	}
	if uint64(r.Revision) < d.kv.Compacted() {
		return nil, rpctypes.ErrGRPCCompacted
	}
	v, err := past(d.kv.View(), r.Revision)
	if err != nil {
		return nil, err
	}
	return pastSource{viewSource{v}, d}, nil
}

// pastSource is an earlier state that a transaction reads. What it walks counts afterwards.
type pastSource struct {
	viewSource
	d *decision
}

func (p pastSource) scan(sp raftstore.Span, limit int, match func(*raftstore.Record) bool) (raftstore.Page, error) {
	page, err := p.viewSource.scan(sp, limit, match)
	return page, cmp.Or(err, p.walked(int64(page.Count)))
}

func (p pastSource) count(sp raftstore.Span) (int64, error) {
	n, err := p.viewSource.count(sp)
	return n, cmp.Or(err, p.walked(n))
}

func (p pastSource) walked(n int64) error {
	p.d.kv.Walk(int(n))
	return headSource{p.d.kv, p.d.most}.far()
}

func (d *decision) lookup(r *pb.RangeRequest) *pb.RangeResponse {
	out := &pb.RangeResponse{Header: d.header()}
	src, err := d.at(r)
	var found selection
	if err == nil {
		found, err = find(src, r)
	}
	if err != nil { // checkPath has asked, but the history may have been compacted between
		d.err = cmp.Or(d.err, err)
		return out
	}
	out.More, out.Count = found.more, found.count
	for _, rec := range found.records {
		out.Kvs = append(out.Kvs, keyValue(rec, r.KeysOnly))
	}
	return out
}

// keyValue is a record as etcd shows it. The value is shared.
func keyValue(r *raftstore.Record, keysOnly bool) *mvccpb.KeyValue {
	kv := &mvccpb.KeyValue{Key: []byte(r.Key), CreateRevision: int64(r.CreateRev), ModRevision: int64(r.ModRev), Version: int64(r.Version), Lease: r.Lease}
	if !keysOnly {
		kv.Value = r.Value
	}
	return kv
}

func (d *decision) checkPut(r *pb.PutRequest) error {
	if r.Lease != 0 && !d.kv.HasLease(r.Lease) {
		return rpctypes.ErrGRPCLeaseNotFound
	}
	if r.IgnoreValue || r.IgnoreLease {
		if _, ok := d.kv.Get(string(r.Key)); !ok {
			return rpctypes.ErrGRPCKeyNotFound
		}
	}
	if d.objects && !r.IgnoreValue && strings.HasPrefix(string(r.Key), registry) {
		_, err := stamp(string(r.Key), r.Value, 1)
		return err
	}
	return nil
}

// stamp gives the object in a value its revision, which the cluster's readers take from there.
func stamp(key string, value []byte, rev uint64) ([]byte, error) {
	o, err := object.Decode(value)
	if err == nil && object.KeyOf(o).Path() != key {
		err = fmt.Errorf("it is %s", object.KeyOf(o))
	}
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "etcdserver: the value of %s must be that object as Kubernetes stores it (protobuf): %v", key, err)
	}
	o.SetResourceVersion(strconv.FormatUint(rev, 10))
	return object.Encode(o)
}

func (d *decision) put(r *pb.PutRequest) *pb.PutResponse {
	key, value, lease := string(r.Key), r.Value, r.Lease
	if r.IgnoreValue || r.IgnoreLease {
		if have, ok := d.kv.Get(key); ok {
			if r.IgnoreValue {
				value = have.Value
			}
			if r.IgnoreLease {
				lease = have.Lease
			}
		}
	}
	if d.objects && strings.HasPrefix(key, registry) {
		if stamped, err := stamp(key, value, d.kv.NextRev()); err == nil { // checkPut has tried
			value = stamped
		}
	}
	prev := d.kv.Put(key, value, lease)
	out := &pb.PutResponse{}
	if r.PrevKv && prev != nil {
		out.PrevKv = keyValue(prev, false)
	}
	return out
}

func (d *decision) remove(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	var keys []string
	if single(r.RangeEnd) {
		keys = []string{string(r.Key)}
	} else {
		for _, sp := range shown(spanOf(r.Key, r.RangeEnd)) {
			for rec := range d.kv.Range(sp.From, sp.To) {
				if d.tired() {
					return &pb.DeleteRangeResponse{}
				}
				keys = append(keys, rec.Key)
			}
		}
	}
	out := &pb.DeleteRangeResponse{}
	for _, key := range keys {
		prev := d.kv.Delete(key)
		if prev == nil {
			continue
		}
		out.Deleted++
		if r.PrevKv {
			out.PrevKvs = append(out.PrevKvs, keyValue(prev, false))
		}
	}
	return out
}

// compare tells whether a condition holds for the key, or for every key of its range.
func (d *decision) compare(c *pb.Compare) bool {
	if single(c.RangeEnd) {
		r, ok := d.kv.Get(string(c.Key))
		if !ok || !visible(string(c.Key)) {
			return compareAbsent(c)
		}
		return compareRecord(c, r)
	}
	none := true
	for _, sp := range shown(spanOf(c.Key, c.RangeEnd)) {
		for r := range d.kv.Range(sp.From, sp.To) {
			if none = false; d.tired() || !compareRecord(c, r) {
				return false
			}
		}
	}
	return !none || compareAbsent(c)
}

// compareAbsent is a condition on a key that does not exist: its numbers are 0, and no condition on its value holds.
func compareAbsent(c *pb.Compare) bool {
	return c.Target != pb.Compare_VALUE && compareRecord(c, &raftstore.Record{})
}

func compareRecord(c *pb.Compare, r *raftstore.Record) bool {
	var order int
	switch c.Target {
	case pb.Compare_VALUE:
		order = bytes.Compare(r.Value, c.GetValue())
	case pb.Compare_CREATE:
		order = cmp.Compare(int64(r.CreateRev), c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(int64(r.ModRev), c.GetModRevision())
	case pb.Compare_VERSION:
		order = cmp.Compare(int64(r.Version), c.GetVersion())
	case pb.Compare_LEASE:
		order = cmp.Compare(r.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_NOT_EQUAL:
		return order != 0
	case pb.Compare_GREATER:
		return order > 0
	case pb.Compare_LESS:
		return order < 0
	}
	return true
}

func (d *decision) grant(r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	// The door has looked at the numbers too, but another member's may be older than ours, and the store refuses the whole entry for one.
	switch {
	case r.ID <= 0 || r.TTL <= 0:
		return nil, errLeaseID
	case r.TTL > raftstore.MaxLeaseTTL:
		return nil, rpctypes.ErrGRPCLeaseTTLTooLarge
	case d.kv.HasLease(r.ID):
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	d.kv.Grant(r.ID, r.TTL)
	return &pb.LeaseGrantResponse{ID: r.ID, TTL: r.TTL}, nil
}

func (d *decision) revoke(r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	if !d.kv.HasLease(r.ID) {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	d.kv.Revoke(r.ID)
	return &pb.LeaseRevokeResponse{}, nil
}

func (d *decision) compact(r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	switch {
	case r.Revision <= int64(d.kv.Compacted()):
		return nil, rpctypes.ErrGRPCCompacted
	case r.Revision > int64(d.kv.Rev()):
		return nil, rpctypes.ErrGRPCFutureRev
	}
	d.kv.Compact(uint64(r.Revision))
	return &pb.CompactionResponse{}, nil
}
