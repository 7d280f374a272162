package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline is raft's way to one follower, silent when the leader must be.
//
// raft takes no answer any more once one was bad, while it may be sending another message: its transport then holds that one back until an answer is
// taken, and the follower is sent nothing until another member leads. A fault trial found it: a member whose disk had failed was started again, and stayed
// empty for a minute. So answers are always taken off the transport here.
type pipeline struct {
	raft.AppendPipeline
	w      *wire
	to     raft.ServerID
	out    chan raft.AppendFuture
	closed chan struct{}
	once   sync.Once
}

func newPipeline(inner raft.AppendPipeline, w *wire, to raft.ServerID) *pipeline {
	p := &pipeline{AppendPipeline: inner, w: w, to: to, out: make(chan raft.AppendFuture), closed: make(chan struct{})}
	w.spawn(p.pump)
	return p
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if err := p.w.maySend(args); err != nil {
		return nil, err
	}
	p.w.noteSent(p.to, args)
	return p.AppendPipeline.AppendEntries(args, resp)
}

// pump hands the answers to raft, until the pipeline is closed. No more wait for it than messages were sent after the first bad answer: raft ends
// a pipeline when it looks next.
func (p *pipeline) pump() {
	var queue []raft.AppendFuture
	for {
		var out chan<- raft.AppendFuture
		var next raft.AppendFuture
		if len(queue) > 0 {
			out, next = p.out, queue[0]
		}
		select {
		case f := <-p.AppendPipeline.Consumer():
			queue = append(queue, f)
		case out <- next:
			queue = queue[1:]
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
