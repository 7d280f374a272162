package etcdapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keysOf are the keys of a range's answer.
func keysOf(r *clientv3.GetResponse) string {
	var out []string
	for _, kv := range r.Kvs {
		out = append(out, string(kv.Key))
	}
	return strings.Join(out, " ")
}

func fails(t *testing.T, err, want error) {
	t.Helper()
	if err == nil || err.Error() != want.Error() {
		t.Errorf("have error %v, want %v", err, want)
	}
}

// TestKV goes through etcd's semantics of puts, ranges and deletions, on the leader and on a follower.
func TestKV(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	for name, of := range map[string]int{"leader": b.leader(), "follower": b.follower()} {
		t.Run(name, func(t *testing.T) {
			c := b.client(of)
			p := name + "/"
			ctx := t.Context()
			first := must(c.Put(ctx, p+"a", "1"))(t).Header.Revision
			if r := must(c.Put(ctx, p+"b", "2"))(t); r.Header.Revision != first+1 {
				t.Errorf("two puts have the revisions %d and %d", first, r.Header.Revision)
			}
			r := must(c.Put(ctx, p+"a", "3", clientv3.WithPrevKV()))(t)
			if r.PrevKv == nil || string(r.PrevKv.Value) != "1" || r.PrevKv.ModRevision != first {
				t.Errorf("the value before is %v", r.PrevKv)
			}
			must(c.Put(ctx, p+"c", "0"))(t)
			g := must(c.Get(ctx, p+"a"))(t)
			if kv := g.Kvs[0]; string(kv.Value) != "3" || kv.CreateRevision != first || kv.ModRevision != first+2 || kv.Version != 2 {
				t.Errorf("after two puts the key is %v", kv)
			}
			if g.Header.Revision != first+3 || g.Header.ClusterId == 0 || g.Header.MemberId == 0 || g.Header.RaftTerm == 0 {
				t.Errorf("the header is %v", g.Header)
			}
			ranges(t, c, p, first)
			if d := must(c.Delete(ctx, p, clientv3.WithPrefix(), clientv3.WithPrevKV()))(t); d.Deleted != 3 || len(d.PrevKvs) != 3 || d.Header.Revision != first+4 {
				t.Errorf("the deletion says %v", d)
			}
			if d := must(c.Delete(ctx, p+"a"))(t); d.Deleted != 0 || d.Header.Revision != first+4 {
				t.Errorf("deleting nothing says %v and takes a revision", d)
			}
			// A key that comes again begins anew.
			must(c.Put(ctx, p+"a", "x"))(t)
			if kv := must(c.Get(ctx, p+"a"))(t).Kvs[0]; kv.Version != 1 || kv.CreateRevision != first+5 {
				t.Errorf("the key that came again is %v", kv)
			}
			_, err := c.Put(ctx, "", "x")
			fails(t, err, rpctypes.ErrEmptyKey)
			_, err = c.Put(ctx, p+"none", "", clientv3.WithIgnoreValue())
			fails(t, err, rpctypes.ErrKeyNotFound)
			_, err = c.Put(ctx, p+"a", "x", clientv3.WithLease(77))
			fails(t, err, rpctypes.ErrLeaseNotFound)
			_, err = c.Get(ctx, p+"a", clientv3.WithRev(first+100000))
			fails(t, err, rpctypes.ErrFutureRev)
			_, err = c.Put(ctx, p+"big", strings.Repeat("x", 3<<20))
			if err == nil {
				t.Error("a put of 3 MiB passes")
			}
			must(c.Put(ctx, p+"large", strings.Repeat("x", 1<<20)))(t)
			if v := must(c.Get(ctx, p+"large"))(t).Kvs[0].Value; len(v) != 1<<20 {
				t.Errorf("a value of 1 MiB came back with %d bytes", len(v))
			}
		})
	}
}

// ranges: a has version 2 and value 3, b value 2, c value 0; created in the order a, b, c.
func ranges(t *testing.T, c *clientv3.Client, p string, first int64) {
	all := clientv3.WithPrefix()
	for _, tc := range []struct {
		name string
		opts []clientv3.OpOption
		want string
		n    int64
		more bool
	}{
		{"all", nil, "a b c", 3, false},
		{"limit", []clientv3.OpOption{clientv3.WithLimit(2)}, "a b", 3, true},
		{"limit that fits", []clientv3.OpOption{clientv3.WithLimit(3)}, "a b c", 3, false},
		{"descending", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "c b a", 3, false},
		{"by value", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "c b a", 3, false},
		{"by value, no order", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByValue, clientv3.SortNone)}, "c b a", 3, false},
		{"by version, limited", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1)}, "a", 3, true},
		{"last modified", clientv3.WithLastRev(), "c", 3, true},
		{"first created", clientv3.WithFirstCreate(), "a", 3, true},
		{"filtered before the limit", []clientv3.OpOption{clientv3.WithMinModRev(first + 2), clientv3.WithLimit(1)}, "a", 3, true},
		{"created until", []clientv3.OpOption{clientv3.WithMaxCreateRev(first + 1)}, "a b", 3, false},
		{"count", []clientv3.OpOption{clientv3.WithCountOnly()}, "", 3, false},
		{"older", []clientv3.OpOption{clientv3.WithRev(first + 1)}, "a b", 2, false},
		{"serializable", []clientv3.OpOption{clientv3.WithSerializable()}, "a b c", 3, false},
	} {
		if tc.name == "serializable" { // a follower may be behind
			eventually(t, "the member shows what it answered", func() bool { return must(c.Get(t.Context(), p+"c", clientv3.WithSerializable()))(t).Count == 1 })
		}
		r := must(c.Get(t.Context(), p, append([]clientv3.OpOption{all}, tc.opts...)...))(t)
		want := ""
		if tc.want != "" {
			want = p + strings.ReplaceAll(tc.want, " ", " "+p)
		}
		if have := keysOf(r); have != want || r.Count != tc.n || r.More != tc.more {
			t.Errorf("%s: have %q, count %d, more %t; want %q, %d, %t", tc.name, have, r.Count, r.More, want, tc.n, tc.more)
		}
	}
	if r := must(c.Get(t.Context(), p, all, clientv3.WithKeysOnly()))(t); len(r.Kvs[0].Value) != 0 {
		t.Error("keys only come with values")
	}
	if r := must(c.Get(t.Context(), p+"b", clientv3.WithFromKey(), clientv3.WithLimit(2)))(t); keysOf(r) != p+"b "+p+"c" {
		t.Errorf("from a key on: %s", keysOf(r))
	}
	chunks := must(c.GetStream(t.Context(), p, all))(t)
	var got []string
	var count int64
	for r := range chunks {
		if err := r.Err(); err != nil {
			t.Errorf("stream a range: %v", err)
		}
		if r.RangeResponse == nil {
			continue
		}
		for _, kv := range r.RangeResponse.Kvs {
			got = append(got, string(kv.Key))
		}
		count += r.RangeResponse.Count
	}
	if !slices.Equal(got, []string{p + "a", p + "b", p + "c"}) || count != 3 {
		t.Errorf("the streamed range is %v with count %d", got, count)
	}
}

// TestTxn goes through etcd's transactions.
func TestTxn(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	for name, of := range map[string]int{"leader": b.leader(), "follower": b.follower()} {
		t.Run(name, func(t *testing.T) {
			c, ctx, p := b.client(of), t.Context(), name+"/"
			rev := must(c.Put(ctx, p+"k", "v"))(t).Header.Revision
			r := must(c.Txn(ctx).If(clientv3.Compare(clientv3.Value(p+"k"), "=", "v"), clientv3.Compare(clientv3.CreateRevision(p+"new"), "=", 0)).
				Then(clientv3.OpPut(p+"k", "w", clientv3.WithPrevKV()), clientv3.OpPut(p+"new", "1"), clientv3.OpGet(p, clientv3.WithPrefix()), clientv3.OpDelete(p+"nothing")).
				Else(clientv3.OpGet(p + "k")).Commit())(t)
			if !r.Succeeded || r.Header.Revision != rev+1 || string(r.Responses[0].GetResponsePut().PrevKv.Value) != "v" {
				t.Errorf("the transaction says %v", r)
			}
			if g := r.Responses[2].GetResponseRange(); len(g.Kvs) != 2 || string(g.Kvs[0].Value) != "w" || g.Kvs[0].ModRevision != rev+1 || g.Kvs[1].ModRevision != rev+1 {
				t.Errorf("a range inside does not see the writes before it under one revision: %v", g)
			}
			r = must(c.Txn(ctx).If(clientv3.Compare(clientv3.Value(p+"none"), "!=", "v")).Then(clientv3.OpPut(p+"k", "x")).Else(clientv3.OpPut(p+"else", "1")).Commit())(t)
			if r.Succeeded {
				t.Error("a comparison with the value of no key holds")
			}
			r = must(c.Txn(ctx).If(clientv3.Compare(clientv3.Version(p), ">", 0).WithPrefix()).Then(clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value(p+"k"), "=", "w")},
				[]clientv3.Op{clientv3.OpDelete(p+"k", clientv3.WithPrevKV())}, nil), clientv3.OpPut(p+"k2", "")).Commit())(t)
			inner := r.Responses[0].GetResponseTxn()
			if !r.Succeeded || !inner.Succeeded || inner.Responses[0].GetResponseDeleteRange().Deleted != 1 {
				t.Errorf("the nested transaction says %v", r)
			}
			before := must(c.Get(ctx, p+"k2"))(t)
			for what, ops := range map[error][]clientv3.Op{
				rpctypes.ErrDuplicateKey:  {clientv3.OpPut(p+"d", "1"), clientv3.OpPut(p+"d", "2")},
				rpctypes.ErrLeaseNotFound: {clientv3.OpPut(p+"k2", "changed"), clientv3.OpPut(p+"d", "1", clientv3.WithLease(99))},
				rpctypes.ErrFutureRev:     {clientv3.OpPut(p+"k2", "changed"), clientv3.OpGet(p, clientv3.WithRev(1<<40))},
				rpctypes.ErrEmptyKey:      {clientv3.OpPut("", "1")},
				rpctypes.ErrTooManyOps:    slices.Repeat([]clientv3.Op{clientv3.OpGet("x")}, 129),
			} {
				_, err := c.Txn(ctx).Then(ops...).Commit()
				fails(t, err, what)
			}
			_, err := c.Txn(ctx).Then(clientv3.OpDelete(p, clientv3.WithPrefix()), clientv3.OpPut(p+"d", "1")).Commit()
			fails(t, err, rpctypes.ErrDuplicateKey)
			after := must(c.Get(ctx, p+"k2"))(t)
			if string(after.Kvs[0].Value) != string(before.Kvs[0].Value) || after.Header.Revision != before.Header.Revision {
				t.Error("a transaction that failed has written")
			}
			// One that only reads takes no revision, and one whose branch writes nothing neither.
			must(c.Txn(ctx).Then(clientv3.OpGet(p + "k2")).Commit())(t)
			r = must(c.Txn(ctx).If(clientv3.Compare(clientv3.Version(p+"k2"), "=", 7)).Then(clientv3.OpPut(p+"k2", "no")).Commit())(t)
			if r.Succeeded || r.Header.Revision != after.Header.Revision {
				t.Errorf("a transaction that writes nothing says %v", r)
			}
		})
	}
}

// TestCompareAndSwap has many clients raise one counter: not one step may be lost.
func TestCompareAndSwap(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	const clients, steps = 8, 25
	done := make(chan error, clients)
	for i := range clients {
		c := b.client(i % 3)
		go func() {
			done <- func() error {
				for range steps {
					for ok := false; !ok; {
						g, err := c.Get(t.Context(), "n")
						if err != nil {
							return err
						}
						n, rev := 0, int64(0)
						if len(g.Kvs) > 0 {
							rev = g.Kvs[0].ModRevision
							if _, err := fmt.Sscan(string(g.Kvs[0].Value), &n); err != nil {
								return err
							}
						}
						r, err := c.Txn(t.Context()).If(clientv3.Compare(clientv3.ModRevision("n"), "=", rev)).Then(clientv3.OpPut("n", fmt.Sprint(n+1))).Commit()
						if err != nil {
							return err
						}
						ok = r.Succeeded
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if g := must(b.client().Get(t.Context(), "n"))(t); string(g.Kvs[0].Value) != fmt.Sprint(clients*steps) || g.Kvs[0].Version != clients*steps {
		t.Errorf("the counter is %s at version %d after %d steps", g.Kvs[0].Value, g.Kvs[0].Version, clients*steps)
	}
}

// TestCompact: what is before the compaction is gone, what is at it is not.
func TestCompact(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c, ctx := b.client(), t.Context()
	one := must(c.Put(ctx, "k", "1"))(t).Header.Revision
	two := must(c.Put(ctx, "k", "2"))(t).Header.Revision
	must(c.Delete(ctx, "k"))(t)
	must(c.Compact(ctx, two))(t)
	_, err := c.Get(ctx, "k", clientv3.WithRev(one))
	fails(t, err, rpctypes.ErrCompacted)
	if g := must(c.Get(ctx, "k", clientv3.WithRev(two)))(t); string(g.Kvs[0].Value) != "2" {
		t.Errorf("at the compaction's revision the key is %v", g.Kvs)
	}
	_, err = c.Compact(ctx, two)
	fails(t, err, rpctypes.ErrCompacted)
	_, err = c.Compact(ctx, two+100)
	fails(t, err, rpctypes.ErrFutureRev)
	w := <-c.Watch(ctx, "k", clientv3.WithRev(one))
	if w.CompactRevision != two || !errors.Is(w.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from before the compaction says %+v", w)
	}
	w = <-c.Watch(ctx, "k", clientv3.WithRev(two))
	if len(w.Events) == 0 || string(w.Events[0].Kv.Value) != "2" {
		t.Errorf("a watch from the compaction's revision says %+v", w)
	}
}

// TestHidden: our own keys are neither seen nor written, whatever span a client asks for.
func TestHidden(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c, ctx := b.client(), t.Context()
	hide(t, b, "/git/x", "/reconcile/y")
	for _, k := range []string{"/a", "/h", "/z"} {
		must(c.Put(ctx, k, "v"))(t)
	}
	if g := must(c.Get(ctx, "", clientv3.WithPrefix()))(t); keysOf(g) != "/a /h /z" || g.Count != 3 {
		t.Errorf("all keys are %s, count %d", keysOf(g), g.Count)
	}
	if g := must(c.Get(ctx, "/", clientv3.WithPrefix(), clientv3.WithLimit(2)))(t); keysOf(g) != "/a /h" || g.Count != 3 || !g.More {
		t.Errorf("two keys are %s, count %d, more %t", keysOf(g), g.Count, g.More)
	}
	if g := must(c.Get(ctx, "/git/x"))(t); len(g.Kvs) != 0 {
		t.Error("a hidden key is shown")
	}
	w := <-c.Watch(ctx, "/", clientv3.WithPrefix(), clientv3.WithRev(1))
	for _, e := range w.Events {
		if strings.HasPrefix(string(e.Kv.Key), "/git") || strings.HasPrefix(string(e.Kv.Key), "/reconcile") {
			t.Errorf("a watch shows %s", e.Kv.Key)
		}
	}
	for _, k := range []string{"/git/x", "/reconcile/new"} {
		if _, err := c.Put(ctx, k, "v"); err == nil || !strings.Contains(err.Error(), "belong to the server") {
			t.Errorf("writing %s says %v", k, err)
		}
	}
	if d := must(c.Delete(ctx, "/", clientv3.WithPrefix()))(t); d.Deleted != 3 {
		t.Errorf("deleting everything deleted %d keys", d.Deleted)
	}
	for _, k := range []string{"/git/x", "/reconcile/y"} {
		if _, ok := b.members[0].Store.View().Get(k); !ok {
			t.Errorf("%s was deleted", k)
		}
	}
}

// TestRegistry: without the flag the cluster's objects are not written.
func TestRegistry(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, noRegistry)
	c, ctx := b.client(), t.Context()
	for _, op := range []clientv3.Op{
		clientv3.OpPut("/registry/pods/a/b", "v"), clientv3.OpDelete("/registry/pods/a/b"), clientv3.OpDelete("/", clientv3.WithPrefix()),
		clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("/registry/pods/a/b", "v")}, nil),
	} {
		if _, err := c.Do(ctx, op); err == nil || !strings.Contains(err.Error(), "write them with git or kubectl") {
			t.Errorf("a write below /registry says %v", err)
		}
	}
	must(c.Get(ctx, "/registry/", clientv3.WithPrefix()))(t)
}
