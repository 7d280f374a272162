package etcdapi

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"reconcile/raftstore"
	"reconcile/sequencer"
)

// TestReadsAcrossACompaction: a read of the past that a compaction overtakes, between the look at the bounds and the read itself, says so; it does
// not say that nothing was there.
func TestReadsAcrossACompaction(t *testing.T) {
	t.Parallel()
	s := lone(t)
	for _, v := range []string{"1", "2", "3"} {
		commit(t, s, raftstore.Op{Kind: raftstore.Put, Key: "k", Value: []byte(v)})
	}
	at, err := past(s.View(), 1)
	if err != nil {
		t.Fatal(err)
	}
	before := s.View()
	if err := s.Compact(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	swept(t, s, at)
	for name, r := range map[string]*pb.RangeRequest{
		"key":   {Key: []byte("k")},
		"span":  {Key: []byte("k"), RangeEnd: []byte("l")},
		"count": {Key: []byte("k"), RangeEnd: []byte("l"), CountOnly: true},
	} {
		if found, err := find(viewSource{at}, r); !errors.Is(err, rpctypes.ErrGRPCCompacted) {
			t.Errorf("%s: a read at revision 1 finds %d keys, and says %v", name, found.count, err)
		}
		d := decision{kv: sequencer.ReadKV(before)}
		old := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: r.Key, RangeEnd: r.RangeEnd, CountOnly: r.CountOnly, Revision: 1}}}
		txn := &pb.TxnRequest{Success: []*pb.RequestOp{old}}
		d.perform(txn, map[*pb.TxnRequest]bool{txn: true}) // behind checkPath, which has found nothing wrong yet
		if !errors.Is(d.err, rpctypes.ErrGRPCCompacted) {
			t.Errorf("%s: a transaction that reads at revision 1 says %v", name, d.err)
		}
	}
}

// lone opens a store of one member in memory.
func lone(t *testing.T) *raftstore.Store {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	s, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for changed := s.LeaderChanged(); !s.Leader().Self; changed = s.LeaderChanged() {
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatal("the store does not lead")
		}
	}
	if err := s.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func commit(t *testing.T, s *raftstore.Store, ops ...raftstore.Op) {
	t.Helper()
	if _, err := s.Propose(t.Context(), raftstore.Entry{Base: s.View().Rev(), Time: time.Now().UnixNano(), Ops: ops}); err != nil {
		t.Fatal(err)
	}
}

// swept waits until an earlier view has lost the versions that it showed.
func swept(t *testing.T, s *raftstore.Store, at *raftstore.View) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, ok := at.Get("k"); !ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the compacted versions are still there")
		}
		select {
		case <-s.Failed():
			t.Fatal("the store has failed")
		case <-time.After(time.Millisecond):
		}
	}
}
