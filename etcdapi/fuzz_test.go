package etcdapi

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"reconcile/controller"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// still is a cluster without controllers.
type still struct{}

func (still) Triggers(controller.View, []controller.Change) []controller.Trigger { return nil }
func (still) Resync(controller.View) []controller.Trigger                        { return nil }
func (still) Settle(controller.Overlay, []controller.Trigger, time.Time, int, controller.Admit) controller.Outcome {
	return controller.Outcome{}
}

// loneServer is a member in memory with a few keys.
func loneServer(f *testing.F) *Server {
	f.Helper()
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Heartbeat: 50 * time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	seq, err := sequencer.New(sequencer.Config{Store: store, Settler: still{}, Txns: Codec{}})
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{Store: store, Sequencer: seq, Members: func() []Member { return nil }, AllowRegistryWrites: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- seq.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			f.Error(err)
		}
		s.end()
		if err := store.Close(); err != nil {
			f.Error(err)
		}
	})
	for _, key := range []string{"a", "a/b", "b", "\x00", "\xff"} {
		if _, err := s.put(ctx, client{}, &pb.PutRequest{Key: []byte(key), Value: []byte(key)}); err != nil {
			f.Fatal(err)
		}
	}
	return s
}

// FuzzRange asks for any range: none may panic, nor answer with more than it counts.
func FuzzRange(f *testing.F) {
	s := loneServer(f)
	for _, r := range []*pb.RangeRequest{
		{Key: []byte("a"), RangeEnd: []byte("c"), Limit: 2, SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND},
		{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true},
		{Key: []byte("a"), RangeEnd: []byte{0}, KeysOnly: true, MinModRevision: 2, MaxCreateRevision: 3, Revision: 3},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r pb.RangeRequest
		if proto.Unmarshal(b, &r) != nil {
			return
		}
		res, _, err := s.selectKeys(t.Context(), client{}, &r)
		if err == nil && (int64(len(res.records)) > res.count || r.Limit > 0 && int64(len(res.records)) > r.Limit) {
			t.Fatalf("%v: %d records of %d", &r, len(res.records), res.count)
		}
	})
}

// FuzzForwarded sends any message to the leader's door for the other members: frames of transactions, and JSON.
func FuzzForwarded(f *testing.F) {
	s := loneServer(f)
	w := &write{kind: kindTxn, msg: &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("x"), Value: []byte("y")}}}}}}
	body := w.AppendTo(nil)
	f.Add(append([]byte{'T', 1, byte(len(body))}, body...))
	f.Add([]byte{'T', 2, 2, byte(kindPut), 0, 3, byte(kindGrant), 8, 5})
	f.Add([]byte(`{"submit":{"raw":[{"Key":"/x","Value":"eA=="}]}}`))
	f.Add([]byte(`{"leases":{"renew":[1,2],"left":[3]}}`))
	f.Add([]byte(`{"read":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, _ = s.cfg.Sequencer.Serve(ctx, b) // an error is an answer
		if ctx.Err() != nil {
			t.Fatalf("%x is not answered within 10 s", b)
		}
		select {
		case <-s.cfg.Store.Failed():
			t.Fatalf("%x stopped the member", b)
		default:
		}
	})
}

// FuzzCodec reads any bytes as a forwarded request and as an answer; what is taken is written so that it is taken again.
func FuzzCodec(f *testing.F) {
	f.Add((&write{kind: kindDelete, msg: &pb.DeleteRangeRequest{Key: []byte("k")}}).AppendTo(nil))
	f.Add((&answer{kind: kindPut, rev: 3, msg: &pb.PutResponse{}}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if w, err := (Codec{}).Txn(b); err == nil {
			if _, err := (Codec{}).Txn(w.AppendTo(nil)); err != nil {
				t.Fatalf("a request that was taken is refused when it is sent on: %v", err)
			}
		}
		if a, err := (Codec{}).Answer(b); err == nil {
			if _, err := (Codec{}).Answer(a.AppendTo(nil)); err != nil {
				t.Fatalf("an answer that was taken is refused when it is sent on: %v", err)
			}
		}
	})
}
