package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// member opens a member on its own storage, linked to the transports given.
func member(t *testing.T, id string, cfg Config, peers ...*raft.InmemTransport) (*Store, *raft.InmemTransport) {
	t.Helper()
	s, err := open(id, cfg, peers...)
	if err != nil {
		t.Fatal(err)
	}
	return s, s.cfg.Transport.(*raft.InmemTransport)
}

func open(id string, cfg Config, peers ...*raft.InmemTransport) (*Store, error) {
	_, transport := raft.NewInmemTransport(raft.ServerAddress(id))
	for _, p := range peers {
		transport.Connect(p.LocalAddr(), p)
		p.Connect(transport.LocalAddr(), transport)
	}
	cfg.ServerID, cfg.Transport, cfg.Heartbeat = id, transport, 100*time.Millisecond
	if cfg.Storage == nil && cfg.Dir == "" {
		cfg.Storage = MemoryStorage()
	}
	return Open(cfg)
}

// Servers join one that has forgotten the beginning of its log: they get a snapshot with everything, blobs and outcomes too.
func TestServersJoinBySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := Config{SnapshotEntries: 10, TrailingEntries: 2, SnapshotInterval: 50 * time.Millisecond}
		first := short
		first.Bootstrap = true
		one, t1 := member(t, "one", first)
		defer one.Close()
		waitLeader(t, one)
		digest, err := one.StageBlob(t.Context(), bytes.Repeat([]byte("p"), 600<<10))
		if err != nil {
			t.Fatal(err)
		}
		propose(t, one, Op{Kind: PutRef, Key: "/git/packs/1", Value: []byte(digest)})
		nonce := one.Nonce()
		if _, err := one.Propose(t.Context(), Entry{Base: one.View().Rev(), Nonce: nonce, Ops: []Op{put("/x", "1")}}); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			propose(t, one, put(fmt.Sprintf("/k/%d", i), strings.Repeat("v", 1000)))
		}
		time.Sleep(time.Second)
		if err := one.Snapshot(); err != nil {
			t.Fatal(err)
		}
		if low, err := one.storage.log.FirstIndex(); err != nil || low < 10 {
			t.Fatalf("the log begins at %d, %v: the test proves nothing", low, err)
		}
		joiner := short
		joiner.Join = true
		var fetched atomic.Int64 // by two members
		joiner.Fetch = func(_ context.Context, from Server, digest string) ([]byte, error) {
			if fetched.Add(1); from.ID != "one" {
				t.Errorf("a blob is looked for at %v", from)
			}
			return one.ServeBlob(digest)
		}
		two, t2 := member(t, "two", joiner, t1)
		defer two.Close()
		three, _ := member(t, "three", joiner, t1, t2)
		defer three.Close()
		if err := one.AddNonvoter(t.Context(), "two", "two"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"two", "three"} {
			if err := one.AddVoter(t.Context(), id, id); err != nil {
				t.Fatal(err)
			}
		}
		point, err := one.ReadPoint(t.Context(), Voice{})
		if err != nil {
			t.Fatal(err)
		}
		rev := point.Rev
		for _, s := range []*Store{two, three} {
			if err := s.WaitPoint(t.Context(), point); err != nil { // what is in the snapshot was never performed here, and counts too
				t.Fatal(err)
			}
			if err := Equal(one.View(), s.View()); err != nil {
				t.Error(err)
			}
			if body, err := s.Blob(digest); err != nil || len(body) != 600<<10 {
				t.Errorf("blob on a joined member: %d bytes, %v", len(body), err)
			}
			if out, ok := s.fsm.outcome(origin{one.node, nonce}); !ok || out.Refused {
				t.Errorf("outcome on a joined member: %+v %v", out, ok)
			}
			// The snapshot carries the history: a watch from before it goes on.
			w, err := s.Watch("/", 1)
			if err != nil {
				t.Fatal(err)
			}
			if events, upTo, err := w.Poll(); err != nil || len(events) == 0 || events[0].Rev != 2 || upTo != rev {
				t.Errorf("a watch from before the snapshot: %d events up to %d, want up to %d, %v", len(events), upTo, rev, err)
			}
			if _, err := s.Propose(t.Context(), Entry{Base: rev, Ops: []Op{put("/y", "1")}}); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower proposes: %v", err)
			}
		}
		if n := fetched.Load(); n != 2 {
			t.Errorf("%d blobs were fetched, not one by each that joined", n)
		}
		servers, err := one.Servers() // the others hear of the last change a moment later
		if err != nil || len(servers) != 3 || !servers[1].Voter {
			t.Errorf("servers %v, %v", servers, err)
		}
		if err := one.TransferLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		for changed := one.LeaderChanged(); one.Leader().Self || one.Leader().ID == ""; changed = one.LeaderChanged() {
			<-changed
		}
		if err := one.AddVoter(t.Context(), "four", "four"); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a follower adds a server: %v", err)
		}
	})
}

// failingLog fails every write after the first n.
type failingLog struct {
	raft.LogStore
	left int
}

func (f *failingLog) StoreLogs(logs []*raft.Log) error {
	if f.left--; f.left < 0 {
		return errors.New("fsync: input/output error")
	}
	return f.LogStore.StoreLogs(logs)
}

// After a failed write nothing is acknowledged, and Run returns the fault.
func TestWriteErrorStopsTheMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := MemoryStorage()
		storage.log = &failingLog{LogStore: storage.log, left: 10}
		s := openOne(t, "", storage, nil)
		defer s.Close()
		acked := 0
		for i := range 20 {
			_, err := s.Propose(t.Context(), Entry{Base: s.View().Rev(), Ops: []Op{put("/a", fmt.Sprint(i))}})
			switch {
			case err == nil:
				acked++
			case acked <= 10 && (errors.Is(err, ErrUnknown) || errors.Is(err, ErrStopped) || errors.Is(err, ErrNotLeader)):
			default:
				t.Fatalf("write %d: %v", i, err)
			}
		}
		if acked == 0 || acked >= 10 {
			t.Errorf("%d writes were acknowledged", acked)
		}
		if err := s.Run(t.Context()); !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("run: %v", err)
		}
		if s.Leader().Self {
			t.Error("it still leads")
		}
	})
}

// A bit that the disk flipped is found when the entry is read.
func TestFlippedBitInTheLogIsFound(t *testing.T) {
	mem := raft.NewInmemStore()
	var fault error
	d := &durable{LogStore: mem, mark: noMark{}, ids: &memoryIdentity{}, fail: func(err error) { fault = err }}
	if err := d.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: []byte("data")}, {Index: 2, Term: 1, Type: raft.LogNoop}}); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := d.GetLog(1, &l); err != nil || string(l.Data) != "data" || len(l.Extensions) != 0 {
		t.Fatalf("read back %+v, %v", l, err)
	}
	for name, damage := range map[string]func(*raft.Log){
		"data": func(l *raft.Log) { l.Data = []byte("dbta") }, "term": func(l *raft.Log) { l.Term = 2 }, "type": func(l *raft.Log) { l.Type = raft.LogBarrier },
		"checksum": func(l *raft.Log) { l.Extensions = []byte{1, 2, 3, 4} }, "no checksum": func(l *raft.Log) { l.Extensions = nil },
	} {
		var bad raft.Log
		if err := mem.GetLog(1, &bad); err != nil {
			t.Fatal(err)
		}
		damage(&bad)
		other := raft.NewInmemStore()
		if err := other.StoreLog(&bad); err != nil {
			t.Fatal(err)
		}
		fault = nil
		d := &durable{LogStore: other, mark: noMark{}, ids: &memoryIdentity{}, fail: func(err error) { fault = err }}
		if err := d.GetLog(1, &l); !errors.Is(err, errChecksum) || fault == nil {
			t.Errorf("damaged %s: %v", name, err)
		}
	}
}

// A member alone leads at once, at its first start and after, whatever its heartbeat timeout.
func TestLoneMemberLeadsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := MemoryStorage()
		for range 3 {
			began := time.Now()
			s := openOne(t, "", storage, func(c *Config) { c.Heartbeat = time.Hour })
			if took := time.Since(began); took > 10*time.Millisecond {
				t.Errorf("it took %s to lead", took)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
