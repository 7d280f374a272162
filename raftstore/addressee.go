package raftstore

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// raft finds members by their address and takes the answer of whoever has it. But a member whose folder was emptied comes back at the same
// address under a new ID, and has forgotten the votes and entries that the others count under the old one: with its voice in the old one's place
// acknowledged writes are lost. So an answer counts only if it is of the member that was asked (DESIGN.md, Identity).

// errNoConfiguration is why a member gives no vote.
var errNoConfiguration = errors.New("this member has not joined its cluster yet: it has no vote to give")

// answered is an error if the answer is not of the member id.
func answered(id raft.ServerID, by raft.RPCHeader) error {
	if string(by.ID) == string(id) {
		return nil
	}
	return fmt.Errorf("member %s was asked, and %s answered at its address: it has taken its place and must join under its own ID", id, by.ID)
}

// RequestVote implements raft.Transport.
func (w *wire) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := w.Transport.RequestVote(id, target, args, resp); err != nil {
		return err
	}
	return answered(id, resp.RPCHeader)
}

// RequestPreVote implements raft.WithPreVote; Config.Validate makes sure that the injected transport does.
func (w *wire) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := w.Transport.(raft.WithPreVote).RequestPreVote(id, target, args, resp); err != nil {
		return err
	}
	return answered(id, resp.RPCHeader)
}

// AppendEntries implements raft.Transport.
func (w *wire) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := w.maySend(args); err != nil {
		return err
	}
	w.noteSent(id, args)
	if err := w.Transport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	return answered(id, resp.RPCHeader)
}

// InstallSnapshot implements raft.Transport.
func (w *wire) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	defer w.holds.begin(id, args.LastLogIndex)()
	return w.Transport.InstallSnapshot(id, target, args, resp, data)
}

// noteSent tells the holds what goes out.
func (w *wire) noteSent(id raft.ServerID, m *raft.AppendEntriesRequest) {
	if r := w.raft.Load(); r != nil {
		w.holds.sent(id, m, r.LastIndex())
	}
}

// AppendEntriesPipeline implements raft.Transport. A pipeline is one connection, to one process: who that is, its first answer says.
func (w *wire) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := w.Transport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	if err := w.introduce(id, p); err != nil {
		_ = p.Close() // nothing is on its way
		return nil, fmt.Errorf("begin a pipeline to member %s: %w", id, err)
	}
	return newPipeline(p, w, id), nil
}

// introduce asks the other end of a new pipeline who it is, with a heartbeat of term 0, which no member that was ever led takes for its leader's.
func (w *wire) introduce(id raft.ServerID, p raft.AppendPipeline) error {
	if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: *w.self}, &raft.AppendEntriesResponse{}); err != nil {
		return err
	}
	late := time.NewTimer(w.patience)
	defer late.Stop()
	select {
	case f := <-p.Consumer():
		if err := f.Error(); err != nil {
			return err
		}
		return answered(id, f.Response().RPCHeader)
	case <-late.C:
		return fmt.Errorf("no answer in %s", w.patience)
	case <-w.stop:
		return ErrStopped
	}
}

// grants tells whether this member may be asked for its vote: it must know a configuration. raft grants every vote while it knows none, for the
// first servers of a cluster; ours are bootstrapped before they start.
func (w *wire) grants() bool {
	r := w.raft.Load()
	return r != nil && len(r.GetConfiguration().Configuration().Servers) > 0
}
