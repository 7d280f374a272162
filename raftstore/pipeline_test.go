package raftstore

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// narrowPipeline holds a message back until the answer to the one before was taken, as raft's transport does with two under way.
type narrowPipeline struct{ answers chan raft.AppendFuture }

type answeredFuture struct {
	raft.AppendFuture
	req *raft.AppendEntriesRequest
}

// Request implements raft.AppendFuture.
func (f answeredFuture) Request() *raft.AppendEntriesRequest { return f.req }

// AppendEntries implements raft.AppendPipeline.
func (p narrowPipeline) AppendEntries(req *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := answeredFuture{req: req}
	p.answers <- f
	return f, nil
}

// Consumer implements raft.AppendPipeline.
func (p narrowPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p narrowPipeline) Close() error { return nil }

// TestPipelineWithoutReaderSends: raft, which takes no answer any more, is not held up in sending, and so comes to end the pipeline. What it does take comes in
// order.
func TestPipelineWithoutReaderSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		w := &wire{silent: func() bool { return false }, spawn: wg.Go}
		p := newPipeline(narrowPipeline{make(chan raft.AppendFuture)}, w, "other")
		var sent []*raft.AppendEntriesRequest
		for i := range uint64(3) {
			m := &raft.AppendEntriesRequest{PrevLogEntry: i}
			if _, err := p.AppendEntries(m, nil); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, m)
		}
		for i, m := range sent[:2] {
			if f := <-p.Consumer(); f.Request() != m {
				t.Errorf("answer %d is to %v", i, f.Request())
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
}
