package etcdapi_test

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestTransactionsDoNotWalkForEver: a transaction that writes may not hold up all others with ranges over everything; what it did until then is undone.
// One that only reads may, and so may a deletion of its own.
func TestTransactionsDoNotWalkForEver(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c, ctx := b.client(), t.Context()
	const keys, most = 3000, 127
	for i := 0; i < keys; i += 100 {
		var puts []clientv3.Op
		for k := range 100 {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("w/%05d", i+k), "v"))
		}
		must(c.Txn(ctx).Then(puts...).Commit())(t)
	}
	rev := must(c.Get(ctx, "w/00000"))(t).Header.Revision
	times := func(op clientv3.Op) (out []clientv3.Op) {
		for range most {
			out = append(out, op)
		}
		return out
	}
	one, count := clientv3.OpGet("w/", clientv3.WithPrefix(), clientv3.WithLimit(1)), clientv3.OpGet("w/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	old := clientv3.OpGet("w/", clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(rev-1))
	put := clientv3.OpPut("put", "v")
	var compares []clientv3.Cmp
	for range most {
		compares = append(compares, clientv3.Compare(clientv3.CreateRevision("w/"), ">", 0).WithPrefix())
	}
	for name, tc := range map[string]struct {
		txn  clientv3.Txn
		want codes.Code
	}{
		"ranges":             {c.Txn(ctx).Then(append(times(one), put)...), codes.ResourceExhausted},
		"ranges behind":      {c.Txn(ctx).Then(append([]clientv3.Op{put}, times(one)...)...), codes.ResourceExhausted},
		"counts":             {c.Txn(ctx).Then(append(times(count), put)...), codes.ResourceExhausted},
		"ranges of the past": {c.Txn(ctx).Then(append(times(old), put)...), codes.ResourceExhausted},
		"comparisons":        {c.Txn(ctx).If(compares...).Then(put), codes.ResourceExhausted},
		"ranges without end": {c.Txn(ctx).Then(clientv3.OpTxn(nil, append(times(one)[:60], put), nil), clientv3.OpTxn(nil, times(count)[:60], nil)), codes.ResourceExhausted},
		"reads only":         {c.Txn(ctx).If(compares...).Then(times(one)...), codes.OK},
		"a few ranges":       {c.Txn(ctx).If(compares[0]).Then(one, count, old, clientv3.OpDelete("w/00001", clientv3.WithRange("w/00003")), put), codes.OK},
	} {
		if _, err := c.Delete(ctx, "put"); err != nil {
			t.Fatal(err)
		}
		_, err := tc.txn.Commit()
		if status.Code(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
		if n := must(c.Get(ctx, "put"))(t).Count; n != 0 && tc.want != codes.OK {
			t.Errorf("%s: it was refused, and its put is there", name)
		}
	}
	if n := must(c.Delete(ctx, "w/", clientv3.WithPrefix()))(t).Deleted; n != keys-2 {
		t.Errorf("%d keys are deleted", n)
	}
}
