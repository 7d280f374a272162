package etcdapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestRevisionFilters: each bound on revisions leaves out what is beyond it, and nothing at it.
func TestRevisionFilters(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c, ctx := b.client(), t.Context()
	rev := map[string]int64{}
	for _, k := range []string{"a", "b", "c"} {
		rev[k] = must(c.Put(ctx, k, "1"))(t).Header.Revision
	}
	mod := must(c.Put(ctx, "a", "2"))(t).Header.Revision // created first, modified last
	for name, tc := range map[string]struct {
		opt  clientv3.OpOption
		want string
	}{
		"no mod before":       {clientv3.WithMinModRev(rev["c"]), "[a c]"},
		"no mod behind":       {clientv3.WithMaxModRev(rev["c"]), "[b c]"},
		"mod of one":          {clientv3.WithMinModRev(mod), "[a]"},
		"none created before": {clientv3.WithMinCreateRev(rev["b"]), "[b c]"},
		"none created behind": {clientv3.WithMaxCreateRev(rev["b"]), "[a b]"},
	} {
		var have []string
		for _, kv := range must(c.Get(ctx, "a", clientv3.WithRange("z"), tc.opt))(t).Kvs {
			have = append(have, string(kv.Key))
		}
		if fmt.Sprint(have) != tc.want {
			t.Errorf("%s: %v, want %s", name, have, tc.want)
		}
	}
}

// TestComparisons: each relation at its edge, and over a range for every key of it.
func TestComparisons(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c, ctx := b.client(), t.Context()
	for _, k := range []string{"r/1", "r/2", "r/2", "r/3"} {
		must(c.Put(ctx, k, "v"))(t)
	}
	version := func(key, is string, n int64) clientv3.Cmp { return clientv3.Compare(clientv3.Version(key), is, n) }
	for _, tc := range []struct {
		name string
		cmp  clientv3.Cmp
		want bool
	}{
		{"2 > 2", version("r/2", ">", 2), false},
		{"2 > 1", version("r/2", ">", 1), true},
		{"2 < 2", version("r/2", "<", 2), false},
		{"2 < 3", version("r/2", "<", 3), true},
		{"2 = 2", version("r/2", "=", 2), true},
		{"2 != 2", version("r/2", "!=", 2), false},
		{"every = 1", version("r/", "=", 1).WithPrefix(), false},
		{"every < 3", version("r/", "<", 3).WithPrefix(), true},
		{"every of the first = 1", version("r/1", "=", 1).WithRange("r/2"), true},
		{"every to the second = 1", version("r/1", "=", 1).WithRange("r/3"), false},
		{"every > 1", version("r/", ">", 1).WithPrefix(), false},
	} {
		if r := must(c.Txn(ctx).If(tc.cmp).Commit())(t); r.Succeeded != tc.want {
			t.Errorf("%s is %v", tc.name, r.Succeeded)
		}
	}
}

// TestWatchFilters: a watch without deletions, or without puts, tells the others.
func TestWatchFilters(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c := b.client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	puts := c.Watch(ctx, "k", clientv3.WithRev(1), clientv3.WithFilterDelete())
	dels := c.Watch(ctx, "k", clientv3.WithRev(1), clientv3.WithFilterPut())
	for _, v := range []string{"1", "2"} {
		must(c.Put(ctx, "k", v))(t)
		must(c.Delete(ctx, "k"))(t)
	}
	if have := story(collect(t, puts, 2)); have != "PUT k=1; PUT k=2" {
		t.Errorf("without deletions: %s", have)
	}
	if have := story(collect(t, dels, 2)); have != "DELETE k=; DELETE k=" {
		t.Errorf("without puts: %s", have)
	}
}
