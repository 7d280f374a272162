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

// TestProgressWhileMuchIsWritten: a progress request is answered though the watch never comes to the end of what is written, and the answer says no more
// than was sent.
func TestProgressWhileMuchIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, transport := raft.NewInmemTransport("one")
		store, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Heartbeat: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
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
		defer st.stop()
		if err := st.create(&pb.WatchCreateRequest{Key: []byte("k/"), RangeEnd: []byte("k0")}); err != nil {
			t.Fatal(err)
		}
		if err := st.progressAll(); err != nil {
			t.Fatal(err)
		}
		last, ok := b.sent[len(b.sent)-1].(*pb.WatchResponse)
		if !ok || last.WatchId != noWatch {
			t.Fatalf("the last message is %v", b.sent[len(b.sent)-1])
		}
		if events := len(b.sent) - 2; last.Header.Revision > int64(events) {
			t.Errorf("the answer says %d, and %d events were sent, one a revision", last.Header.Revision, events)
		}
	})
}
