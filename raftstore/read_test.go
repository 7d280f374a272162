package raftstore

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// link is a transport in memory whose ways to others can be cut, and whose replies to AppendEntries can be held back after the other end
// has given them, as the pause of a machine or a slow network holds them.
type link struct {
	*raft.InmemTransport
	beat func(raft.RPC)

	mu   sync.Mutex
	cut  map[raft.ServerAddress]bool
	hold chan struct{} // closed: let go; nil: nothing is held
	held map[raft.ServerAddress]int
}

var errCut = errors.New("the way is cut")

func newLink(id string, others ...*link) *link {
	_, inner := raft.NewInmemTransport(raft.ServerAddress(id))
	for _, o := range others {
		inner.Connect(o.LocalAddr(), o.InmemTransport)
		o.Connect(inner.LocalAddr(), inner)
	}
	return &link{InmemTransport: inner, cut: map[raft.ServerAddress]bool{}, held: map[raft.ServerAddress]int{}}
}

// SetHeartbeatHandler implements raft.Transport.
func (l *link) SetHeartbeatHandler(f func(raft.RPC)) { l.beat = f }

func (l *link) open(to raft.ServerAddress) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.cut[to]
}

func (l *link) sever(others ...*link) {
	for _, o := range others {
		l.mu.Lock()
		l.cut[o.LocalAddr()] = true
		l.mu.Unlock()
		o.mu.Lock()
		o.cut[l.LocalAddr()] = true
		o.mu.Unlock()
	}
}

// keep holds all replies that come from now on until the returned function is called.
func (l *link) keep() (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{})
	l.hold = c
	return sync.OnceFunc(func() { close(c) })
}

func (l *link) holds(from *link) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[from.LocalAddr()] > 0
}

// AppendEntries implements raft.Transport.
func (l *link) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !l.open(to) {
		return errCut
	}
	err := l.InmemTransport.AppendEntries(id, to, args, resp)
	l.mu.Lock()
	hold := l.hold
	if hold != nil {
		l.held[to]++
	}
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (l *link) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// RequestVote implements raft.Transport.
func (l *link) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !l.open(to) {
		return errCut
	}
	return l.InmemTransport.RequestVote(id, to, args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (l *link) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !l.open(to) {
		return errCut
	}
	return l.InmemTransport.RequestPreVote(id, to, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (l *link) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if !l.open(to) {
		return errCut
	}
	return l.InmemTransport.InstallSnapshot(id, to, args, resp, data)
}

// linked opens members on links of their own, the first as leader; those after the third have no vote.
func linked(t *testing.T, ids ...string) ([]*Store, []*link) {
	t.Helper()
	var links []*link
	var servers []Server
	for i, id := range ids {
		links = append(links, newLink(id, links...))
		servers = append(servers, Server{ID: id, Address: id, Voter: i < 3})
	}
	var stores []*Store
	for i, id := range ids {
		// No follower misses the leader, and no leader its followers, in what the test takes.
		s, err := Open(Config{Storage: MemoryStorage(), ServerID: id, Servers: servers, Bootstrap: true, Transport: links[i], Heartbeat: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		stores = append(stores, s)
	}
	promote(t, links[1], stores[0])
	waitLeader(t, stores[0])
	return stores, links
}

// promote makes a member stand for election at once, as the leader's message at the transfer of the lead does.
func promote(t *testing.T, by *link, s *Store) {
	t.Helper()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(by.LocalAddr()), Addr: []byte(by.LocalAddr())}
	if err := by.InmemTransport.TimeoutNow(raft.ServerID(s.id.ServerID), raft.ServerAddress(s.id.ServerID), &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}); err != nil {
		t.Fatal(err)
	}
}

// A reply to a message that was sent before the question says nothing about who leads now: one that comes late must not confirm a leader
// that has been deposed meanwhile.
func TestOldRepliesConfirmNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c")
		a, b := stores[0], stores[1]
		old := propose(t, a, put("/x", "1")).Last
		for b.raft.LastIndex() < a.raft.LastIndex() { // else c, which may have the entry, would not vote for b
			time.Sleep(50 * time.Millisecond)
		}
		release := links[0].keep()
		for !links[0].holds(links[1]) || !links[0].holds(links[2]) {
			time.Sleep(50 * time.Millisecond)
		}
		links[0].sever(links[1], links[2])
		promote(t, links[2], b)
		waitLeader(t, b)
		if err := b.WaitRev(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		acked := propose(t, b, put("/x", "2")).Last
		if !a.Leader().Self {
			t.Fatal("the old leader has noticed: the test proves nothing")
		}
		mustNotRead(t, a, acked, release)
	})
}

// mustNotRead asks a deposed leader, and lets go of what is held while it waits.
func mustNotRead(t *testing.T, s *Store, acked uint64, release func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	done := make(chan struct{})
	var rev uint64
	var err error
	go func() {
		defer close(done)
		rev, err = s.ReadIndex(ctx)
	}()
	synctest.Wait()
	release()
	<-done
	if err == nil {
		t.Errorf("a deposed leader reads at revision %d after %d was acknowledged", rev, acked)
	}
}

// What a member says of its own term with its question confirms the leader, as an answer to a heartbeat would; one that has gone to a later term, or has no
// vote, confirms nothing.
func TestVoiceConfirmsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c", "d")
		a, b, c, d := stores[0], stores[1], stores[2], stores[3]
		old := propose(t, a, put("/x", "1")).Last
		for _, s := range stores {
			if err := s.WaitRev(t.Context(), old); err != nil {
				t.Fatal(err)
			}
		}
		term := a.Leader().Term
		for name, v := range map[string]Voice{"nobody": {}, "itself": a.Voice(), "a member without a vote": d.Voice(), "a stranger": {"e", term}, "no term": {"b", 0}} {
			if a.majority(v, term) {
				t.Errorf("the voice of %s confirms the leader", name)
			}
		}
		links[0].sever(links[1:]...) // no heartbeat is answered from here on
		began := time.Now()
		if p, err := a.ReadPoint(t.Context(), b.Voice()); err != nil || p.Rev != old || time.Since(began) > 0 {
			t.Errorf("with the voice of a follower: %v, %v after %s", p, err, time.Since(began))
		}
		promote(t, links[2], b)
		waitLeader(t, b)
		propose(t, b, put("/x", "2"))
		if !a.Leader().Self || a.Leader().Term != term {
			t.Fatal("the old leader knows that it is none: the test proves nothing")
		}
		for _, s := range []*Store{b, c} {
			if a.majority(s.Voice(), term) {
				t.Errorf("the voice of %s, which is in a later term, confirms the old leader", s.id.ServerID)
			}
		}
		if p, err := a.ReadPoint(t.Context(), c.Voice()); err == nil {
			t.Errorf("the voice of a member in a later term confirmed the read point %v", p)
		}
	})
}

// A member without a vote says nothing about who leads: it has no part in the election of another.
func TestNonvotersConfirmNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c", "d", "e")
		a, b := stores[0], stores[1]
		old := propose(t, a, put("/x", "1")).Last
		for _, s := range stores {
			if err := s.WaitRev(t.Context(), old); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range []*link{links[0], links[3], links[4]} {
			l.sever(links[1], links[2])
		}
		promote(t, links[2], b)
		waitLeader(t, b)
		acked := propose(t, b, put("/x", "2")).Last
		if !a.Leader().Self {
			t.Fatal("the old leader has noticed: the test proves nothing")
		}
		mustNotRead(t, a, acked, func() {})
	})
}

// A heartbeat is answered beside raft's own loop. One of an older leader, on its way while the member votes in a later term, must not
// take the member back to the older term: it would take entries of the old leader then, which the new one lacks.
func TestHeartbeatTakesNoTermBack(t *testing.T) {
	storage := MemoryStorage()
	voting, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	arm := make(chan struct{})
	storage.Intercept(func(vote bool) error {
		select {
		case <-arm:
			if vote {
				once.Do(func() { close(voting); <-release })
			}
		default:
		}
		return nil
	})
	own := newLink("b")
	servers := []Server{{ID: "a", Address: "a", Voter: true}, {ID: "b", Address: "b", Voter: true}, {ID: "c", Address: "c", Voter: true}}
	s, err := Open(Config{Storage: storage, ServerID: "b", Servers: servers, Bootstrap: true, Transport: own, Heartbeat: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	close(arm)
	header := func(id string) raft.RPCHeader {
		return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
	}
	asker := newLink("c", own)
	vote := make(chan raft.RequestVoteResponse, 1)
	go func() {
		var resp raft.RequestVoteResponse
		_ = asker.InmemTransport.RequestVote("b", "b", &raft.RequestVoteRequest{RPCHeader: header("c"), Term: 7, LastLogIndex: 9, LastLogTerm: 6}, &resp)
		vote <- resp
	}()
	<-voting
	replies := make(chan raft.RPCResponse, 1)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		own.beat(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: header("a"), Term: 6}, RespChan: replies})
	}()
	select {
	case <-answered:
	case <-time.After(50 * time.Millisecond): // it waits for raft's loop, or for the vote's file
	}
	close(release)
	<-answered
	reply := (<-replies).Response.(*raft.AppendEntriesResponse)
	granted := <-vote
	if !granted.Granted {
		t.Fatal("no vote was given: the test proves nothing")
	}
	if term := s.raft.CurrentTerm(); term != 7 || reply.Success {
		t.Errorf("after a vote in term 7 a heartbeat of term 6 is answered %+v, and the member is in term %d", reply, term)
	}
}

// A leader that has been deposed since it last confirmed its lead must not say of a lease that the new leader has ended that it lives: the
// lead may have been handed over, or the machine have stood still with its clock, so that no time has passed for it.
func TestDeposedLeaderRenewsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stores, links := linked(t, "a", "b", "c")
		a, b := stores[0], stores[1]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, s := range stores[:2] {
			go func() { _ = s.Lessor().Run(ctx, s.RevokeHere) }()
		}
		propose(t, a, LeaseGrant(1, 60))
		if err := b.WaitRev(ctx, propose(t, a, put("/x", "1")).Last); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Lessor().KeepAlive(ctx, 1); err != nil {
			t.Fatal(err)
		}
		links[0].sever(links[1], links[2])
		promote(t, links[2], b)
		waitLeader(t, b)
		granted, _ := b.View().Lease(1)
		propose(t, b, LeaseRevoke(1, granted.Granted, 0))
		if !a.Leader().Self {
			t.Fatal("the old leader has noticed: the test proves nothing")
		}
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if left, err := a.Lessor().KeepAlive(bounded, 1); err == nil {
			t.Errorf("a deposed leader renews a lease that was revoked: %d s", left)
		}
	})
}
