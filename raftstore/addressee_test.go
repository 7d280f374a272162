package raftstore

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// replaced stops a member and opens one at its address that has forgotten everything, as the cure of a damaged folder makes one. It reaches by.
func replaced(t *testing.T, old *Store, by *link) *Store {
	t.Helper()
	address := old.id.ServerID
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	by.mu.Lock()
	delete(by.cut, raft.ServerAddress(address))
	by.mu.Unlock()
	s, err := Open(Config{Storage: MemoryStorage(), ServerID: address + "-new", ClusterID: old.id.ClusterID, Join: true, Transport: newLink(address, by), Heartbeat: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A member that has forgotten its votes and entries has no voice in the place of the one that was at its address before: of three, one was cut
// off while the others acknowledged a write; of those one is down, and one comes back emptied.
func TestEmptiedMemberHasNoVoiceOfTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c")
		a, b, c := stores[0], stores[1], stores[2]
		links[1].sever(links[0], links[2])
		acked := propose(t, a, put("/x", "acknowledged")).Last
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		replaced(t, c, links[1])
		promote(t, newLink("d", links[1]), b)
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if b.Leader().Self {
				t.Fatalf("the member that was cut off leads, without the write acknowledged at revision %d", acked)
			}
		}
	})
}

// Nor does it acknowledge entries in its place: a leader whose only other voter came back emptied commits nothing.
func TestEmptiedMemberAcknowledgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c")
		a := stores[0]
		before := propose(t, a, put("/x", "1")).Last
		links[0].sever(links[1])
		replaced(t, stores[2], links[0])
		p, err := a.Propose(t.Context(), Entry{Base: before, Ops: []Op{put("/x", "2")}})
		if err == nil {
			t.Errorf("revision %d was acknowledged by a member that knows nothing of the cluster", p.Last)
		}
		if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) {
			t.Errorf("the write failed with %v", err)
		}
	})
}

// A pipeline is to one process; who that is, it says before anything else.
func TestPipelineToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c")
		w := newWire(stores[0])
		w.Transport = links[0].InmemTransport
		defer stores[0].Close()
		for _, id := range []raft.ServerID{"b", "other"} {
			p, err := w.AppendEntriesPipeline(id, "b")
			if (err == nil) != (id == "b") {
				t.Errorf("a pipeline to member %s at b's address: %v", id, err)
			}
			if err == nil {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		if now := stores[1].raft.CurrentTerm(); now != stores[0].Leader().Term || stores[1].Leader().ID != "a" {
			t.Error(fmt.Errorf("the question moved member b to term %d under leader %q", now, stores[1].Leader().ID))
		}
	})
}
