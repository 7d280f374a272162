package etcdapi

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"reconcile/raftstore"
)

// busyStream is a client's stream during whose every message somebody writes a key that the client watches.
type busyStream struct {
	pb.Watch_WatchServer
	ctx   context.Context
	write func()
	sent  []any
}

func (b *busyStream) Context() context.Context { return b.ctx }

func (b *busyStream) Send(r *pb.WatchResponse) error { return b.SendMsg(r) }

func (b *busyStream) SendMsg(m any) error {
	b.sent = append(b.sent, m)
	b.write()
	return nil
}

// newBusy opens a store of one member, and a stream on it that writes a key of its watches during each message, at most a thousand.
func newBusy(t *testing.T) (*busyStream, *watchStream) {
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Heartbeat: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	for !store.Leader().Self {
		<-store.LeaderChanged()
	}
	if err := store.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	writes := 0
	b := &busyStream{ctx: t.Context()}
	b.write = func() {
		writes++
		if writes > 1000 {
			t.Fatal("the progress request is never answered")
		}
		e := raftstore.Entry{Base: store.View().Rev(), Ops: []raftstore.Op{{Kind: raftstore.Put, Key: fmt.Sprint("k/", writes), Value: []byte("v")}}}
		if _, err := store.Propose(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{cfg: Config{Store: store, ProgressEvery: time.Hour, Log: slog.New(slog.DiscardHandler)}}
	st := &watchStream{s: s, c: client{masters: true}, stream: b, ctx: b.ctx, signal: make(chan struct{}, 1), watches: map[int64]*watch{}}
	st.group = store.WatchGroup(st.wake)
	t.Cleanup(st.stop)
	return b, st
}

// watchK makes a watch of all keys that are written.
func watchK(t *testing.T, st *watchStream, from uint64) {
	if err := st.create(&pb.WatchCreateRequest{Key: []byte("k/"), RangeEnd: []byte("k0"), StartRevision: int64(from), ProgressNotify: true}); err != nil {
		t.Fatal(err)
	}
}

// told goes through what a stream has sent since a message, as etcd's judge does: what it tells is complete, each watch's events come once and in order, and
// none at or before a revision that was told, which itself is never smaller than an event before. It returns how often a revision was told.
func told(t *testing.T, b *busyStream, since int) int {
	last, progress, n := map[int64]uint64{}, uint64(0), 0
	for _, m := range b.sent[since:] {
		r, whole := m.(*pb.WatchResponse)
		if !whole {
			r = &pb.WatchResponse{}
			if err := proto.Unmarshal(mem.BufferSlice(m.(frame)).Materialize(), r); err != nil {
				t.Fatal(err)
			}
		}
		rev := uint64(r.Header.Revision)
		if len(r.Events) == 0 && !r.Created {
			n++
			for id, l := range last {
				if (r.WatchId == noWatch || r.WatchId == id) && rev < l {
					t.Errorf("%d is told after watch %d was sent the event of %d", rev, id, l)
				}
			}
			if r.WatchId == noWatch {
				progress = rev
			}
		}
		for _, e := range r.Events {
			mod := uint64(e.Kv.ModRevision)
			if mod <= progress || last[r.WatchId] > 0 && mod != last[r.WatchId]+1 || mod > rev {
				t.Errorf("watch %d is sent the event of %d after %d, %d was told, and the header says %d", r.WatchId, mod, last[r.WatchId], progress, rev)
			}
			last[r.WatchId] = mod
		}
	}
	return n
}

// TestProgressWhileMuchIsWritten: a progress request is answered though the watches never come to the end of what is written, and the answer says neither
// more nor less than what was sent to each of them.
func TestProgressWhileMuchIsWritten(t *testing.T) {
	for _, watches := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(watches), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, st := newBusy(t)
				first := st.s.cfg.Store.View().Rev() + 1
				for range watches {
					watchK(t, st, first)
				}
				for range 3 {
					if err := st.progressAll(); err != nil {
						t.Fatal(err)
					}
					if err := st.notify(); err != nil {
						t.Fatal(err)
					}
				}
				if n := told(t, b, watches); n < 3 {
					t.Errorf("three requests were answered %d times", n)
				}
			})
		})
	}
}

// TestProgressOfTheFuture: a client that was told a revision by another member is told none before it by one that has not come so far.
func TestProgressOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, st := newBusy(t)
		now := st.s.cfg.Store.View().Rev()
		watchK(t, st, now+3) // the answer writes one key
		for range 2 {
			if err := st.progressAll(); err != nil {
				t.Fatal(err)
			}
			if err := st.notify(); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.sent) != 1 {
			t.Fatalf("the watch from %d on was sent %v at %d", now+3, b.sent[1:], st.s.cfg.Store.View().Rev())
		}
		b.write()
		if err := st.progressAll(); err != nil {
			t.Fatal(err)
		}
		if n := told(t, b, 1); n != 1 {
			t.Errorf("the request at %d was answered %d times", st.s.cfg.Store.View().Rev(), n)
		}
	})
}
