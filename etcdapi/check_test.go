package etcdapi

import (
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"pgregory.net/rapid"

	"reconcile/raftstore"
)

// plainly is writesOf as one would say it: every put is compared with every deletion.
func plainly(list []*pb.RequestOp) (puts map[string]bool, dels []raftstore.Span, err error) {
	puts = map[string]bool{}
	note := func(k string) {
		for _, sp := range dels {
			if sp.Contains(k) {
				err = rpctypes.ErrGRPCDuplicateKey
			}
		}
		if puts[k] {
			err = rpctypes.ErrGRPCDuplicateKey
		}
		puts[k] = true
	}
	for _, op := range list {
		if d := op.GetRequestDeleteRange(); d != nil {
			dels = append(dels, spanOf(d.Key, d.RangeEnd))
		}
	}
	for _, op := range list {
		t := op.GetRequestTxn()
		if t == nil {
			continue
		}
		yes, gone, bad := plainly(t.Success)
		no, more, worse := plainly(t.Failure)
		if bad != nil || worse != nil {
			return nil, nil, rpctypes.ErrGRPCDuplicateKey
		}
		for k := range no {
			yes[k] = true
		}
		for k := range yes {
			note(k)
		}
		dels = append(append(dels, gone...), more...)
	}
	for _, op := range list {
		if p := op.GetRequestPut(); p != nil {
			note(string(p.Key))
		}
	}
	return puts, dels, err
}

func opPut(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func opDelete(from, to string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(from), RangeEnd: []byte(to)}}}
}

func opTxn(yes, no []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: yes, Failure: no}}}
}

// TestWritesOf: writes of a key twice are found as by comparing everything with everything.
func TestWritesOf(t *testing.T) {
	t.Parallel()
	key := rapid.StringMatching("[a-h][a-d]?")
	var ops func(depth int) *rapid.Generator[[]*pb.RequestOp]
	ops = func(depth int) *rapid.Generator[[]*pb.RequestOp] {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *pb.RequestOp {
			switch n := rapid.IntRange(0, 3).Draw(t, "what"); {
			case n == 0 && depth > 0:
				return opTxn(ops(depth-1).Draw(t, "success"), ops(depth-1).Draw(t, "failure"))
			case n == 1:
				return opDelete(key.Draw(t, "from"), rapid.OneOf(key, rapid.SampledFrom([]string{"", "\x00"})).Draw(t, "to"))
			}
			return opPut(key.Draw(t, "key"))
		}), 0, 4)
	}
	rapid.Check(t, func(t *rapid.T) {
		list := ops(2).Draw(t, "operations")
		_, _, want := plainly(list)
		if _, err := writesOf(list); !errors.Is(err, want) {
			t.Fatalf("it says %v, and one by one %v", err, want)
		}
	})
}

// BenchmarkCheckTxn checks a transaction of 42 * 42 * 42 operations, half of them puts and half deletions: about what a request may hold.
func BenchmarkCheckTxn(b *testing.B) {
	const side = 42
	n := 0
	var nest func(depth int) []*pb.RequestOp
	nest = func(depth int) (out []*pb.RequestOp) {
		for i := range side {
			n++
			switch {
			case depth > 0:
				out = append(out, opTxn(nest(depth-1), nil))
			case i%2 == 0:
				out = append(out, opPut(fmt.Sprintf("p%06d", n)))
			default:
				out = append(out, opDelete(fmt.Sprintf("d%06d", n), ""))
			}
		}
		return out
	}
	r := &pb.TxnRequest{Success: nest(2)}
	for b.Loop() {
		if err := (client{masters: true}).checkTxn(r); err != nil {
			b.Fatal(err)
		}
	}
}
