package etcdapi

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"reconcile/raftstore"
)

// TestSharedResponses: streams that send the same share its bytes, and any other response has its own: of another watch, revision, term or events,
// also where it begins with the same event.
func TestSharedResponses(t *testing.T) {
	s := &Server{clusterID: 1, memberID: 2}
	s.term.Store(3)
	st := &watchStream{s: s}
	event := func(key string, rev uint64) *raftstore.Event {
		return &raftstore.Event{Key: key, Rev: rev, Rec: &raftstore.Record{Key: key, Value: []byte(key), ModRev: rev, CreateRev: rev, Version: 1}}
	}
	a, b, c := event("a", 5), event("b", 6), event("c", 7)
	check := func(id int64, upTo uint64, events ...*raftstore.Event) []byte {
		t.Helper()
		out := st.small(&watch{id: id}, upTo, events, 64)
		var m pb.WatchResponse
		if err := proto.Unmarshal(out, &m); err != nil {
			t.Fatal(err)
		}
		var keys, want []string
		for i, e := range m.Events {
			keys, want = append(keys, string(e.Kv.Key)), append(want, events[i].Key)
		}
		if m.WatchId != id || m.Header.Revision != int64(upTo) || m.Header.RaftTerm != s.term.Load() || len(m.Events) != len(events) || !slices.Equal(keys, want) {
			t.Errorf("watch %d up to %d in term %d got %v", id, upTo, s.term.Load(), &m)
		}
		return out
	}
	check(0, 7, a, b)
	second := check(0, 7, a, b)
	if third := check(0, 7, a, b); &third[0] != &second[0] {
		t.Error("the third response with the same content has bytes of its own")
	}
	check(0, 7, a, c)
	check(0, 7, a)
	check(0, 7, a, b, c)
	check(1, 7, a, b, c)
	check(1, 8, a, b, c)
	check(1, 8, a, b, c)
	s.term.Store(4)
	check(1, 8, a, b, c)
	check(1, 8, b, c)
}
