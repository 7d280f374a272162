package raftstore

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// wire is the transport that raft is given: the injected one, with what raft's own use of it lacks.
//
// Messages of our own may be put among those that come in. And heartbeats are answered here, beside raft's loop, for that may be waiting
// for the disk, but only where the answer changes nothing. raft has a handler for them that runs beside its loop too and takes over terms
// there: a heartbeat of an older leader that came while the loop voted in a later term took the member back to the older term, where it
// would have taken entries that the new leader does not have.
type wire struct {
	raft.Transport
	in chan raft.RPC
	// Nothing is passed on once one of these is closed. raft, told to shut down, may still take a message, be a follower again for it, and
	// write its term: a member that stops because it cannot write would end with a panic.
	stop, fatal <-chan struct{}
	// silent tells that this member must not go on leading.
	silent func() bool

	holds *holds

	self *raft.RPCHeader
	raft atomic.Pointer[raft.Raft] // once it has started
	// beat is the last heartbeat that was answered here: raft's loop is to see that the leader lives.
	beat  chan raft.RPC
	fresh time.Duration // how old raft's last contact may be until it is told of one
	// patience is how long the other end of a new pipeline may take to say who it is.
	patience time.Duration
	// spawn starts a goroutine that the store waits for.
	spawn func(func())
}

func newWire(s *Store) *wire {
	t, id := s.cfg.Transport, s.id.ServerID
	header := &raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: t.EncodePeer(raft.ServerID(id), t.LocalAddr())}
	return &wire{Transport: t, in: make(chan raft.RPC), stop: s.stopped, fatal: s.fatal, silent: s.disk.hang.silent, holds: &s.holds, self: header,
		beat: make(chan raft.RPC, 1), fresh: s.cfg.Heartbeat / 20, patience: s.cfg.Heartbeat, spawn: s.wg.Go}
}

// Consumer implements raft.Transport.
func (w *wire) Consumer() <-chan raft.RPC { return w.in }

// SetHeartbeatHandler implements raft.Transport, and leaves raft's handler aside.
func (w *wire) SetHeartbeatHandler(func(raft.RPC)) { w.Transport.SetHeartbeatHandler(w.heartbeat) }

// heartbeat answers a heartbeat at once if it is of this member's own term, which has one leader, and this member follows: then raft's loop
// would say yes and change nothing. Any other one goes its way through the loop, as all messages do.
func (w *wire) heartbeat(rpc raft.RPC) {
	r, m := w.raft.Load(), rpc.Command.(*raft.AppendEntriesRequest)
	if r == nil || r.State() != raft.Follower || r.CurrentTerm() != m.Term || w.ended() {
		w.put(rpc)
		return
	}
	rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: *w.self, Term: m.Term, LastLog: r.LastIndex(), Success: true}, nil)
	if time.Since(r.LastContact()) < w.fresh {
		return
	}
	again := raft.RPC{Command: m, RespChan: make(chan raft.RPCResponse, 1)}
	select {
	case <-w.beat: // the newest is enough
	default:
	}
	select {
	case w.beat <- again:
	default: // another one has come meanwhile
	}
}

// maySend is nil if a message of the leader's may go out.
func (w *wire) maySend(m *raft.AppendEntriesRequest) error {
	if w.silent() {
		return errHangs
	}
	for _, l := range m.Entries {
		if l.Type == ghostType {
			return fmt.Errorf("entry %d is not in the log", l.Index)
		}
	}
	return nil
}

// compared bounds the commit index of a message by the last entry that it compares with the member's log, as raft's paper has it. raft's
// follower takes its own last index for that, which may be of a tail that lost; and raft's leader reads its commit index after it has chosen what
// to send, so that the one may be ahead of the other.
func compared(m *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	end := m.PrevLogEntry + uint64(len(m.Entries))
	if m.LeaderCommitIndex <= end {
		return m
	}
	c := *m
	c.LeaderCommitIndex = end
	return &c
}

// put hands a message to raft's loop.
func (w *wire) put(rpc raft.RPC) {
	switch m := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		rpc.Command = compared(m)
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		if !w.grants() {
			rpc.Respond(nil, errNoConfiguration)
			return
		}
	}
	if !w.ended() {
		select {
		case w.in <- rpc:
			return
		case <-w.stop:
		case <-w.fatal:
		}
	}
	rpc.Respond(&raft.AppendEntriesResponse{}, fmt.Errorf("pass a message on: %w", raft.ErrRaftShutdown)) // raft's transport in memory needs one
}

func (w *wire) ended() bool {
	select {
	case <-w.stop:
		return true
	case <-w.fatal:
		return true
	default:
		return false
	}
}

// pump passes messages on until the store stops.
func (w *wire) pump() {
	for {
		select {
		case rpc := <-w.Transport.Consumer():
			w.put(rpc)
		case rpc := <-w.beat:
			w.put(rpc)
		case <-w.stop:
			return
		}
	}
}

// stand tells raft to stand for election: TimeoutNow is the message of a leadership transfer.
func (w *wire) stand() {
	w.put(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: *w.self}, RespChan: make(chan raft.RPCResponse, 1)})
}

// hail asks a member whether it still follows this one as the leader of the term: with a heartbeat, as raft's own are. It returns the
// member's term, greater if it does not.
func (w *wire) hail(to raft.Server, term uint64) (uint64, error) {
	req := raft.AppendEntriesRequest{RPCHeader: *w.self, Term: term}
	var resp raft.AppendEntriesResponse
	if err := w.AppendEntries(to.ID, to.Address, &req, &resp); err != nil {
		return 0, err
	}
	if !resp.Success && resp.Term <= term {
		return 0, fmt.Errorf("member %s refused a heartbeat of term %d in term %d", to.ID, term, resp.Term)
	}
	return resp.Term, nil
}
