package etcdapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"reconcile/internal/testcluster/member"
	"reconcile/sequencer"
)

func noRegistry(c *member.Config) { c.AllowRegistryWrites = false }

// hide writes keys as the server itself does.
func hide(t *testing.T, b *bare, keys ...string) {
	var req sequencer.Request
	for _, k := range keys {
		req.Raw = append(req.Raw, sequencer.Raw{Key: k, Value: []byte("ours")})
	}
	must(b.members[0].Sequencer.Submit(t.Context(), req))(t)
}

// story is a watch's events as text.
func story(events []*clientv3.Event) string {
	var out []string
	for _, e := range events {
		s := fmt.Sprintf("%s %s=%s", e.Type, e.Kv.Key, e.Kv.Value)
		if e.PrevKv != nil {
			s += " was " + string(e.PrevKv.Value)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// collect reads a watch until it has n events.
func collect(t *testing.T, w clientv3.WatchChan, n int) (all []*clientv3.Event) {
	t.Helper()
	for len(all) < n {
		select {
		case r, ok := <-w:
			if !ok || r.Err() != nil {
				t.Fatalf("the watch ended: %v", r.Err())
			}
			all = append(all, r.Events...)
		case <-time.After(30 * time.Second):
			t.Fatalf("the watch gave %d events of %d: %s", len(all), n, story(all))
		}
	}
	return all
}

// TestWatch goes through etcd's watches, on the leader and on a follower.
func TestWatch(t *testing.T) {
	t.Parallel()
	b := newBare(t, 3, nil)
	for name, of := range map[string]int{"leader": b.leader(), "follower": b.follower()} {
		t.Run(name, func(t *testing.T) {
			c, ctx, p := b.client(of), t.Context(), name+"/"
			from := must(c.Get(ctx, p))(t).Header.Revision + 1
			live := c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
			if r := <-live; !r.Created {
				t.Fatalf("the first answer is %+v", r)
			}
			must(c.Put(ctx, p+"a", "1"))(t)
			must(c.Txn(ctx).Then(clientv3.OpPut(p+"a", "2"), clientv3.OpPut(p+"b", "1"), clientv3.OpPut(p+"c", "1")).Commit())(t)
			must(c.Delete(ctx, p+"a"))(t)
			const want = "PUT %a=1; PUT %a=2 was 1; PUT %b=1; PUT %c=1; DELETE %a= was 2"
			if have := story(collect(t, live, 5)); have != strings.ReplaceAll(want, "%", p) {
				t.Errorf("the watch told %s", have)
			}
			past := collect(t, c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithPrevKV()), 5)
			if have := story(past); have != strings.ReplaceAll(want, "%", p) {
				t.Errorf("the watch of the past told %s", have)
			}
			if k := past[4].Kv; k.CreateRevision != 0 || k.Version != 0 || k.ModRevision != from+2 {
				t.Errorf("a deletion carries more than key and revision: %v", k)
			}
			r := <-c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(from+1))
			if n := len(r.Events); n < 3 || r.Events[0].Kv.ModRevision != r.Events[2].Kv.ModRevision {
				t.Errorf("the events of one revision came apart: %d", n)
			}
			if have := story(collect(t, c.Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFilterPut()), 1)); have != "DELETE "+p+"a=" {
				t.Errorf("without puts: %s", have)
			}
			if have := story(collect(t, c.Watch(ctx, p+"b", clientv3.WithRange(p+"c"), clientv3.WithRev(from)), 1)); have != "PUT "+p+"b=1" {
				t.Errorf("a range: %s", have)
			}
			future := c.Watch(ctx, p+"f", clientv3.WithRev(from+5))
			for i := range 4 {
				must(c.Put(ctx, p+"f", fmt.Sprint(i)))(t)
			}
			if have := story(collect(t, future, 1)); have != "PUT "+p+"f=2" {
				t.Errorf("a watch from a revision to come: %s", have)
			}
			bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			if r := <-c.Watch(bounded, p+"z", clientv3.WithRange(p+"a")); !r.Canceled {
				t.Errorf("an empty range is watched: %+v", r)
			}
		})
	}
}

// TestProgressOfAFutureWatch: a watch that begins at a revision which the store has not reached is told nothing before the store is there.
func TestProgressOfAFutureWatch(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c := b.client()
	rev := must(c.Put(t.Context(), "k", "v"))(t).Header.Revision
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	const later = 10
	w := c.Watch(ctx, "k", clientv3.WithRev(rev+later), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	for r := range w {
		switch {
		case r.Created:
			for range later {
				must(c.Put(ctx, "other", "v"))(t)
			}
		case r.Header.Revision < rev+later-1:
			t.Errorf("a watch from revision %d on is told of progress up to %d", rev+later, r.Header.Revision)
		default:
			return
		}
	}
	t.Error("no progress was told")
}

// TestWatchProgress: a progress answer never runs ahead of the events, on request and by itself.
func TestWatchProgress(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c, ctx := b.client(), t.Context()
	quiet := c.Watch(ctx, "quiet", clientv3.WithProgressNotify())
	rev := must(c.Put(ctx, "other", "1"))(t).Header.Revision
	eventually(t, "a notification of what has passed", func() bool {
		r := <-quiet
		return r.IsProgressNotify() && r.Header.Revision >= rev
	})
	w := c.Watch(ctx, "busy", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-w
	var seen, last, told int64
	for i := range 50 {
		last = must(c.Put(ctx, fmt.Sprintf("busy/%d", i), "v"))(t).Header.Revision
		if err := c.RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for told < last {
		r := <-w
		for _, e := range r.Events {
			if e.Kv.ModRevision <= told {
				t.Fatalf("revision %d came after progress %d", e.Kv.ModRevision, told)
			}
			seen = e.Kv.ModRevision
		}
		if r.IsProgressNotify() {
			told = r.Header.Revision
		}
		if told == 0 && seen == last {
			if err := c.RequestProgress(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen != last {
		t.Errorf("progress %d was told with events up to %d of %d", told, seen, last)
	}
}

// raw is a watch stream without clientv3, which hides what the server answers.
func raw(t *testing.T, b *bare) pb.Watch_WatchClient {
	conn := must(grpc.NewClient(b.peers[0].Etcd, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20))))(t)
	t.Cleanup(func() { conn.Close() })
	return must(pb.NewWatchClient(conn).Watch(t.Context()))(t)
}

func create(t *testing.T, w pb.Watch_WatchClient, r *pb.WatchCreateRequest) *pb.WatchResponse {
	t.Helper()
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		t.Fatal(err)
	}
	return must(w.Recv())(t)
}

// TestWatchStream looks at the answers of the protocol itself.
func TestWatchStream(t *testing.T) {
	t.Parallel()
	b := newBare(t, 1, nil)
	c := b.client()
	w := raw(t, b)
	if r := create(t, w, &pb.WatchCreateRequest{Key: []byte("k"), WatchId: 7}); !r.Created || r.WatchId != 7 || r.Canceled {
		t.Errorf("a watch with an ID of the client's: %v", r)
	}
	if r := create(t, w, &pb.WatchCreateRequest{Key: []byte("k"), WatchId: 7}); !r.Created || !r.Canceled || r.WatchId != -1 || r.CancelReason == "" {
		t.Errorf("the same ID again: %v", r)
	}
	if r := create(t, w, &pb.WatchCreateRequest{Key: []byte("k"), StartRevision: -1}); !r.Canceled || r.CancelReason == "" {
		t.Errorf("a negative revision: %v", r)
	}
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 7}}}); err != nil {
		t.Fatal(err)
	}
	if r := must(w.Recv())(t); !r.Canceled || r.WatchId != 7 {
		t.Errorf("the answer to a cancellation: %v", r)
	}
	if r := create(t, w, &pb.WatchCreateRequest{}); !r.Created || r.Canceled || r.WatchId != 0 {
		t.Errorf("a watch of no key: %v", r)
	}
	must(c.Put(t.Context(), "\x00", "first key"))(t)
	if r := must(w.Recv())(t); len(r.Events) != 1 || r.WatchId != 0 {
		t.Errorf("the event of the first key: %v", r)
	}
	// Two megabytes in one revision come in fragments, the last of which says so.
	big := raw(t, b)
	create(t, big, &pb.WatchCreateRequest{Key: []byte("big"), RangeEnd: []byte("bih"), Fragment: true, PrevKv: true})
	for _, part := range []string{"a", "b", "c", "d"} {
		must(c.Put(t.Context(), "big"+part, strings.Repeat("x", 1<<20)))(t)
		must(big.Recv())(t)
	}
	must(c.Delete(t.Context(), "big", clientv3.WithPrefix()))(t)
	var events []*mvccpb.Event
	fragments := 0
	for {
		r := must(big.Recv())(t)
		events = append(events, r.Events...)
		if fragments++; !r.Fragment {
			break
		}
	}
	if fragments < 2 || len(events) != 4 || len(events[3].PrevKv.Value) != 1<<20 {
		t.Errorf("%d events came in %d fragments", len(events), fragments)
	}
}
