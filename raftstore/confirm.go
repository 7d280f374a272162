package raftstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// confirmer finds out whether this member still led a term at a moment, by asking a majority of the voters after it: DESIGN.md, Reads.
//
// raft.VerifyLeader does not: it counts replies that arrive after the question, also those to messages sent before it, which a pause of the
// machine or the network may have held back for any time, and those of members without a vote.
type confirmer struct {
	self string
	ask  func(to raft.Server, term uint64) (uint64, error)
	// spawn starts a goroutine that the store waits for.
	spawn func(func())
	stop  <-chan struct{}
	pause time.Duration // between tries

	mu    sync.Mutex
	peers map[raft.ServerID]*voice
}

// voice is the way to one voter: one message at a time, which answers for all rounds that began before it was sent.
type voice struct {
	to      raft.Server
	busy    bool
	waiting []*round
	// late tells that it did not answer in time: others are asked before it.
	late bool
}

// round is one question.
type round struct {
	term   uint64
	need   int           // replies yet
	spare  []raft.Server // voters who are not asked as long as the others answer
	failed error
	done   chan struct{} // closed when need is 0, or failed is set, or nobody waits
	closed bool
	// once tells that nobody waits: what fails is not asked again.
	once bool
}

func (r *round) endLocked() {
	if !r.closed {
		r.closed = true
		close(r.done)
	}
}

// confirm returns nil if at some moment of the call, which lies after its beginning, a majority of servers was in no later term than
// this member, which must have led the term. This member's own voice counts: the caller must find it in the term afterwards.
// leads tells whether this member still does, and gives a channel that is closed when that may have changed.
func (c *confirmer) confirm(ctx context.Context, term uint64, servers []raft.Server, leads func() (bool, <-chan struct{})) error {
	r := &round{term: term, done: make(chan struct{})}
	var others []raft.Server
	voters, own := 0, 0
	for _, m := range servers {
		switch {
		case m.Suffrage != raft.Voter:
		case string(m.ID) == c.self:
			voters, own = voters+1, 1
		default:
			voters, others = voters+1, append(others, m)
		}
	}
	r.need = voters/2 + 1 - own
	if r.need <= 0 && voters > 0 {
		return nil
	}
	c.begin(r, others)
	defer c.end(r)
	patience := time.NewTimer(c.pause)
	defer patience.Stop()
	for {
		still, changed := leads()
		if !still {
			return fmt.Errorf("%w: it has just lost the lead", ErrNotLeader)
		}
		select {
		case <-r.done:
			return r.failed
		case <-changed:
		case <-patience.C:
			c.widen(r)
		case <-c.stop:
			return ErrStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin asks as many of the others as are needed, after those that are being asked have answered: who was late the last time only if there are
// no others. A message to each would cost them all as much, and mostly tell nothing more.
func (c *confirmer) begin(r *round, others []raft.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortStableFunc(others, func(a, b raft.Server) int { return c.lateLocked(a.ID) - c.lateLocked(b.ID) })
	n := min(r.need, len(others))
	r.spare = others[n:]
	c.askLocked(r, others[:n])
}

func (c *confirmer) lateLocked(id raft.ServerID) int {
	if v := c.peers[id]; v != nil && v.late {
		return 1
	}
	return 0
}

// widen asks those too who were spared, because the answers do not come.
func (c *confirmer) widen(r *round) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.peers {
		v.late = v.late || v.busy
	}
	c.widenLocked(r)
}

func (c *confirmer) widenLocked(r *round) {
	spare := r.spare
	r.spare = nil
	c.askLocked(r, spare)
}

// end lets a round be forgotten.
func (c *confirmer) end(r *round) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.endLocked()
}

func (c *confirmer) askLocked(r *round, whom []raft.Server) {
	for _, to := range whom {
		v := c.peers[to.ID]
		if v == nil {
			v = &voice{}
			c.peers[to.ID] = v
		}
		v.to = to
		for len(v.waiting) > 0 && v.waiting[0].closed { // of one that does not answer they would gather
			v.waiting = v.waiting[1:]
		}
		v.waiting = append(v.waiting, r)
		if !v.busy {
			v.busy = true
			c.spawn(func() { c.speak(v) })
		}
	}
}

// speak sends messages to one voter as long as somebody waits.
func (c *confirmer) speak(v *voice) {
	for {
		rounds, to := c.take(v)
		if len(rounds) == 0 {
			return
		}
		term, err := c.ask(to, rounds[0].term)
		if c.count(v, rounds, term, err); err == nil {
			continue
		}
		select {
		case <-time.After(c.pause):
		case <-c.stop:
		}
	}
}

// take are the rounds of one term that wait; none ends the way's goroutine.
func (c *confirmer) take(v *voice) (rounds []*round, to raft.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var later []*round
	for _, r := range v.waiting {
		switch {
		case r.closed:
		case len(rounds) == 0 || r.term == rounds[0].term:
			rounds = append(rounds, r)
		default:
			later = append(later, r)
		}
	}
	v.waiting = later
	select {
	case <-c.stop:
		rounds = nil
	default:
	}
	v.busy = len(rounds) > 0
	return rounds, v.to
}

// count takes a reply; an error leaves the rounds waiting.
func (c *confirmer) count(v *voice, rounds []*round, term uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v.late = err != nil
	if err != nil {
		rounds = slices.DeleteFunc(rounds, func(r *round) bool { return r.once })
		v.waiting = append(rounds, v.waiting...)
		for _, r := range rounds {
			if !r.closed {
				c.widenLocked(r)
			}
		}
		return
	}
	for _, r := range rounds {
		if term > r.term {
			r.failed = fmt.Errorf("%w: a member is in term %d, this one led term %d", ErrNotLeader, term, r.term)
			r.endLocked()
		} else if r.need--; r.need == 0 {
			r.endLocked()
		}
	}
}
