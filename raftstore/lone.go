package raftstore

import (
	"github.com/hashicorp/raft"
)

// wire is the transport that raft is given: the injected one, with a way to put a message of our own among those that come in. raft
// waits for a whole heartbeat timeout before it stands for election, also where nobody else could lead; a lone voter is told at once to
// stand (TimeoutNow, the message of a leadership transfer), so that it leads milliseconds after the start, and not seconds.
type wire struct {
	raft.Transport
	in chan raft.RPC
	// silent tells that this member must not go on leading.
	silent func() bool
}

func newWire(t raft.Transport, silent func() bool) *wire {
	return &wire{Transport: t, in: make(chan raft.RPC), silent: silent}
}

// Consumer implements raft.Transport.
func (w *wire) Consumer() <-chan raft.RPC { return w.in }

// RequestPreVote implements raft.WithPreVote; Config.Validate makes sure that the injected transport does.
func (w *wire) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return w.Transport.(raft.WithPreVote).RequestPreVote(id, target, args, resp)
}

// pump passes messages on until stop is closed.
func (w *wire) pump(stop <-chan struct{}) {
	for {
		select {
		case rpc := <-w.Transport.Consumer():
			select {
			case w.in <- rpc:
			case <-stop:
				return
			}
		case <-stop:
			return
		}
	}
}

// stand tells raft to stand for election.
func (w *wire) stand(self raft.ServerID, stop <-chan struct{}) {
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: []byte(w.LocalAddr())}
	rpc := raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: header}, RespChan: make(chan raft.RPCResponse, 1)}
	select {
	case w.in <- rpc:
	case <-stop:
	}
}

// lone tells whether this member is the only voter.
func (s *Store) lone() bool {
	servers, err := s.Servers()
	if err != nil {
		return false
	}
	voters, self := 0, false
	for _, m := range servers {
		if m.Voter {
			voters++
			self = self || m.ID == s.id.ServerID
		}
	}
	return voters == 1 && self
}
