package raftstore

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"reconcile/internal/mutant"
)

// Lessor keeps leases alive. That a lease exists and which keys hang on it is state, made and ended by entries (LeaseGrant, LeaseRevoke);
// when it runs out is known to the leader alone, by its own monotonic clock, so that a renewal costs no entry. A new leader gives
// every lease its TTL, or what the last checkpoint left of it, and at least Config.LeaseGrace. Its methods may be called on every member by
// many goroutines: what concerns time is asked of the leader, through Peer.
type Lessor struct {
	s *Store
	// here and there gather renewals: one round of heartbeats, or one message to the leader, serves all that wait.
	here  *Rounds[leaseAsk, int64]
	there *Rounds[leaseAsk, int64]

	// checkpoints holds a token while a checkpoint is on its way, or renewals take one back: what they write comes behind it.
	checkpoints chan struct{}

	mu     sync.Mutex
	peer   LeasePeer
	term   uint64 // of the tenure, 0 if this member does not lead
	clocks map[int64]*leaseClock
	order  leaseHeap
	// ending are those whose revocation is under way: they cannot be renewed any more.
	ending map[int64]*leaseClock
	wake   chan struct{} // holds a token when the first deadline may have changed
}

// leaseClock is when a lease runs out.
type leaseClock struct {
	id, ttl  int64
	granted  uint64
	deadline time.Time
	at       int // in the heap, -1 if out of it
	// noted tells that a checkpoint may say less than the TTL: it was given to one, and no renewal has taken that back since.
	noted bool
}

// LeasePeer reaches the leader's Lessor.Serve. An error may mean anything but ErrNotLeader, which is tried again: renewals may be repeated.
type LeasePeer interface {
	CallLeases(ctx context.Context, leader Leader, call LeaseCall) (LeaseReply, error)
}

// LeaseCall is what a member asks the leader: to renew leases, and what time others have left.
type LeaseCall struct {
	Renew []int64 `json:"renew,omitempty"`
	Left  []int64 `json:"left,omitempty"`
	// Voice is that of the member that asks.
	Voice Voice `json:"voice,omitzero"`
}

// LeaseReply answers each ID of a call in its place: the TTL of a renewed lease in seconds, what is left of one, or -1 if there is no such
// lease.
type LeaseReply struct {
	Renewed []int64 `json:"renewed,omitempty"`
	Left    []int64 `json:"left,omitempty"`
}

// leaseAsk is one question.
type leaseAsk struct {
	id    int64
	renew bool
}

// leaseCallTimeout bounds a round of renewals.
const leaseCallTimeout = 5 * time.Second

// leasePace is the least time between rounds of renewals: they are for seconds, so that milliseconds are nothing to them, and each round costs
// messages between the members.
const leasePace = time.Millisecond

func newLessor(s *Store) *Lessor {
	l := &Lessor{s: s, wake: make(chan struct{}, 1), checkpoints: make(chan struct{}, 1)}
	l.here, l.there = newPacedRounds(leasePace, l.answerHere), newPacedRounds(leasePace, l.answerThere)
	return l
}

// Lessor keeps this member's leases alive.
func (s *Store) Lessor() *Lessor { return s.lessor }

// SetPeer gives the way to the leader. Without one, a follower's KeepAlive fails with ErrNotLeader.
func (l *Lessor) SetPeer(p LeasePeer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peer = p
}

// KeepAlive renews a lease and returns its TTL in seconds, from before the call on. Errors: ErrNoLease if there is none, or its end is under
// way; ErrNotLeader if no leader answered; ctx's.
func (l *Lessor) KeepAlive(ctx context.Context, id int64) (ttl int64, err error) {
	return l.ask(ctx, leaseAsk{id, true})
}

// TimeToLive is how many seconds a lease has left; its TTL and its keys are in the View. Errors as of KeepAlive.
func (l *Lessor) TimeToLive(ctx context.Context, id int64) (left int64, err error) {
	return l.ask(ctx, leaseAsk{id, false})
}

// leasePatience is how long a question waits for a leader that counts.
const leasePatience = 2 * time.Second

func (l *Lessor) ask(ctx context.Context, q leaseAsk) (int64, error) {
	limit := time.Now().Add(leasePatience)
	for {
		changed := l.s.LeaderChanged()
		r := l.there
		if l.s.Leader().Self {
			r = l.here
		}
		n, err := r.Ask(ctx, q)
		if err == nil && n < 0 {
			err = ErrNoLease
		}
		if err == nil {
			return n, nil
		}
		if err = fmt.Errorf("lease %d: %w", q.id, err); !errors.Is(err, ErrNotLeader) || time.Now().After(limit) {
			return 0, err
		}
		select {
		case <-changed:
		case <-time.After(leaseRetry):
		case <-ctx.Done():
			return 0, err
		case <-l.s.stopped:
			return 0, err
		}
	}
}

// Serve answers a call that another member's LeasePeer brought to this one. ErrNotLeader if it does not lead.
func (l *Lessor) Serve(ctx context.Context, call LeaseCall) (LeaseReply, error) {
	asks := make([]leaseAsk, 0, len(call.Renew)+len(call.Left))
	for _, id := range call.Renew {
		asks = append(asks, leaseAsk{id, true})
	}
	for _, id := range call.Left {
		asks = append(asks, leaseAsk{id, false})
	}
	answers, err := l.answer(ctx, asks, call.Voice)
	if err != nil {
		return LeaseReply{}, err
	}
	n := len(call.Renew)
	return LeaseReply{Renewed: answers[:n:n], Left: answers[n:]}, nil
}

func (l *Lessor) answerHere(asks []leaseAsk) ([]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), leaseCallTimeout)
	defer cancel()
	return l.answer(ctx, asks, Voice{})
}

// answerThere asks the leader.
func (l *Lessor) answerThere(asks []leaseAsk) ([]int64, error) {
	l.mu.Lock()
	peer := l.peer
	l.mu.Unlock()
	leader := l.s.Leader()
	if peer == nil || leader.Self || leader.ID == "" {
		return nil, fmt.Errorf("ask the leader: %w", ErrNotLeader)
	}
	call := LeaseCall{Voice: l.s.Voice()}
	for _, a := range asks {
		if a.renew {
			call.Renew = append(call.Renew, a.id)
		} else {
			call.Left = append(call.Left, a.id)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseCallTimeout)
	defer cancel()
	reply, err := peer.CallLeases(ctx, leader, call)
	if err != nil {
		return nil, fmt.Errorf("ask the leader %s: %w", leader.ID, err)
	}
	if len(reply.Renewed) != len(call.Renew) || len(reply.Left) != len(call.Left) {
		return nil, fmt.Errorf("the leader %s answered %d and %d of %d and %d questions", leader.ID, len(reply.Renewed), len(reply.Left), len(call.Renew), len(call.Left))
	}
	out := make([]int64, len(asks))
	for i, a := range asks {
		from := &reply.Left
		if a.renew {
			from = &reply.Renewed
		}
		out[i], *from = (*from)[0], (*from)[1:]
	}
	return out, nil
}

// answer renews on this member, which must lead (ReadIndex), so that no later leader has begun its own count before the renewals were asked for.
func (l *Lessor) answer(ctx context.Context, asks []leaseAsk, by Voice) ([]int64, error) {
	from := mutant.LeaseNow()
	if _, err := l.s.readIndexFor(ctx, by); err != nil {
		return nil, err
	}
	out := make([]int64, len(asks))
	var full []*leaseClock
	seen := l.seen(asks)
	v := l.s.View()
	l.mu.Lock()
	if l.term == 0 {
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: its leases are not counted yet", ErrNotLeader)
	}
	for i, a := range asks {
		c := l.clocks[a.id]
		if out[i] = -1; c == nil {
			continue
		}
		was, ok := v.Lease(a.id)
		if c == seen[i] && (!ok || was.Granted != c.granted) {
			// It was revoked while begin counted it from a view of before.
			l.dropLocked(c)
			continue
		}
		if !a.renew {
			out[i] = max(0, int64((c.deadline.Sub(mutant.LeaseNow())+time.Second/2)/time.Second))
			continue
		}
		out[i] = c.ttl
		l.setLocked(c, from.Add(time.Duration(c.ttl)*time.Second))
		if c.noted || ok && was.Granted == c.granted && was.Remaining > 0 && was.Remaining < was.TTL {
			full = append(full, c)
		}
	}
	l.mu.Unlock()
	if len(full) > 0 {
		// The next leader would count from the checkpoint, and end what has been renewed since.
		if err := l.takeBack(ctx, full); err != nil {
			return nil, fmt.Errorf("renew what was checkpointed: %w", err)
		}
	}
	return out, nil
}

// takeBack writes down that renewed leases have their whole time, behind the checkpoint that is perhaps on its way.
func (l *Lessor) takeBack(ctx context.Context, clocks []*leaseClock) error {
	select {
	case l.checkpoints <- struct{}{}:
		defer func() { <-l.checkpoints }()
	case <-ctx.Done():
		return ctx.Err()
	}
	list := make([]Lease, len(clocks))
	for i, c := range clocks {
		list[i] = Lease{ID: c.id, Granted: c.granted, Remaining: c.ttl}
	}
	if _, err := l.s.proposeOwn(ctx, LeaseCheckpoint(list)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range clocks {
		c.noted = false
	}
	return nil
}

// seen are the clocks of what is asked for, nil for none. A view that is taken afterwards holds the lease of each, unless it was revoked;
// one that was taken before may lack a lease that was granted since.
func (l *Lessor) seen(asks []leaseAsk) []*leaseClock {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*leaseClock, len(asks))
	for i, a := range asks {
		out[i] = l.clocks[a.id]
	}
	return out
}

// granted and revoked follow the entries; the state machine calls them for each, under its lock.
func (l *Lessor) granted(lease *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != 0 {
		l.addLocked(lease, time.Duration(lease.TTL)*time.Second)
	}
}

func (l *Lessor) revoked(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ending, id)
	if c := l.clocks[id]; c != nil {
		l.dropLocked(c)
	}
}

func (l *Lessor) dropLocked(c *leaseClock) {
	delete(l.clocks, c.id)
	heap.Remove(&l.order, c.at)
}

func (l *Lessor) addLocked(lease *Lease, left time.Duration) {
	if old := l.clocks[lease.ID]; old != nil {
		l.dropLocked(old) // else its end would take the clock of the new lease away
	}
	c := &leaseClock{id: lease.ID, ttl: lease.TTL, granted: lease.Granted, at: -1}
	l.clocks[c.id] = c
	l.setLocked(c, mutant.LeaseNow().Add(left))
}

func (l *Lessor) setLocked(c *leaseClock, deadline time.Time) {
	c.deadline = deadline
	if c.at < 0 {
		heap.Push(&l.order, c)
	} else {
		heap.Fix(&l.order, c.at)
	}
	if c.at == 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// maxExpiries is how many leases one call of revoke ends, maxCheckpoint how many one entry checkpoints.
const (
	maxExpiries   = 256
	maxCheckpoint = 1000
)

// Leases with a TTL over checkpointFrom are checkpointed every checkpointEvery.
const (
	checkpointFrom  = 300
	checkpointEvery = 5 * time.Minute
)

// Run ends leases that ran out while this member leads, until ctx ends or the store stops. revoke commits operations (LeaseRevoke) through
// whoever decides the writes, in order with all others; an error is tried again as long as this member leads. Call it once.
func (l *Lessor) Run(ctx context.Context, revoke func(context.Context, []Op) error) error {
	for {
		changed := l.s.LeaderChanged()
		if leader := l.s.Leader(); leader.Self {
			if err := l.lead(ctx, leader.Term, revoke); err != nil {
				l.s.cfg.Logger.Debug("leases are not counted yet", "term", leader.Term, "error", err)
				changed = nil // try again at once, or after the pause
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.s.stopped:
			return nil
		case <-l.s.fatal:
			return nil
		case <-changed:
		case <-time.After(leaseRetry):
		}
	}
}

// leaseRetry is the pause after a failure.
const leaseRetry = 200 * time.Millisecond

// lead counts and ends leases as long as this member leads in the term.
func (l *Lessor) lead(ctx context.Context, term uint64, revoke func(context.Context, []Op) error) error {
	bounded, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	if err := l.s.Barrier(bounded); err != nil {
		return err
	}
	l.begin(term)
	defer l.end()
	checkpoint := time.NewTicker(checkpointEvery)
	defer checkpoint.Stop()
	pause := time.Duration(0)
	for {
		changed := l.s.LeaderChanged()
		if leader := l.s.Leader(); !leader.Self || leader.Term != term {
			return nil
		}
		ops, next := l.due(term)
		if pause == 0 && len(ops) > 0 {
			if err := revoke(ctx, ops); err != nil {
				l.s.cfg.Logger.Debug("leases that ran out were not ended; trying again", "leases", len(ops), "error", err)
				pause = leaseRetry
			} else {
				l.forget()
			}
			continue
		}
		timer := time.NewTimer(max(pause, next))
		pause = 0
		select {
		case <-changed:
		case <-l.wake:
		case <-timer.C:
		case <-checkpoint.C:
			l.checkpoint(ctx)
		case <-l.s.stopped:
			timer.Stop()
			return nil
		case <-l.s.fatal:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// restored is called when the state was replaced by a snapshot's.
func (l *Lessor) restored() {
	l.mu.Lock()
	term := l.term
	l.mu.Unlock()
	if term != 0 {
		l.begin(term)
	}
}

// begin gives every lease its time.
func (l *Lessor) begin(term uint64) {
	l.mu.Lock()
	l.term, l.clocks, l.order, l.ending = term, map[int64]*leaseClock{}, nil, map[int64]*leaseClock{}
	l.mu.Unlock()
	// From here on granted and revoked tell of entries; the view has all before, and perhaps some of them.
	v := l.s.View()
	l.mu.Lock()
	defer l.mu.Unlock()
	for lease := range v.Leases() {
		if l.clocks[lease.ID] != nil {
			continue
		}
		left := lease.TTL
		if lease.Remaining > 0 {
			left = lease.Remaining
		}
		l.addLocked(lease, max(time.Duration(left)*time.Second, l.s.cfg.LeaseGrace))
	}
}

func (l *Lessor) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.clocks, l.order, l.ending = 0, nil, nil, nil
}

// due are the revocations of leases that ran out, and how long it is until the next one does.
func (l *Lessor) due(term uint64) (ops []Op, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := mutant.LeaseNow()
	for len(l.order) > 0 && len(l.ending) < maxExpiries && !l.order[0].deadline.After(now) {
		c := heap.Pop(&l.order).(*leaseClock)
		delete(l.clocks, c.id)
		l.ending[c.id] = c
	}
	for _, c := range l.ending {
		ops = append(ops, LeaseRevoke(c.id, c.granted, term))
	}
	if len(l.order) == 0 {
		return ops, time.Hour
	}
	return ops, max(0, l.order[0].deadline.Sub(now))
}

// forget is called when the revocations are committed. revoked has told of those that ended something; what is left was not there any more.
func (l *Lessor) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.ending)
}

// checkpoint writes down what long leases have left.
func (l *Lessor) checkpoint(ctx context.Context) { l.checkpointBy(ctx, l.s.proposeOwn) }

func (l *Lessor) checkpointBy(ctx context.Context, propose func(context.Context, ...Op) (Outcome, error)) {
	select {
	case l.checkpoints <- struct{}{}:
		defer func() { <-l.checkpoints }()
	case <-ctx.Done():
		return
	}
	for _, slice := range l.remaining() {
		bounded, cancel := context.WithTimeout(ctx, enqueueTimeout)
		_, err := propose(bounded, LeaseCheckpoint(slice))
		cancel()
		if err != nil {
			l.s.cfg.Logger.Debug("leases were not checkpointed; the next round does it", "leases", len(slice), "error", err)
			return
		}
	}
}

func (l *Lessor) remaining() (slices [][]Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := mutant.LeaseNow()
	for _, c := range l.clocks {
		if c.ttl <= checkpointFrom {
			continue
		}
		if n := len(slices); n == 0 || len(slices[n-1]) == maxCheckpoint {
			slices = append(slices, nil)
		}
		c.noted = true
		last := &slices[len(slices)-1]
		*last = append(*last, Lease{ID: c.id, Granted: c.granted, Remaining: int64(c.deadline.Sub(now) / time.Second)})
	}
	return slices
}

// RevokeHere commits operations that end leases where nobody else writes: for Run in tests and tools. In production the sequencer does it.
func (s *Store) RevokeHere(ctx context.Context, ops []Op) error {
	for {
		_, err := s.Propose(ctx, Entry{Base: s.View().Rev(), Time: time.Now().UnixNano(), Ops: ops})
		if !errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return err
		}
	}
}

// leaseHeap is a heap by deadline.
type leaseHeap []*leaseClock

// Len implements heap.Interface.
func (h leaseHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h leaseHeap) Less(i, j int) bool { return h[i].deadline.Before(h[j].deadline) }

// Swap implements heap.Interface.
func (h leaseHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *leaseHeap) Push(x any) {
	c := x.(*leaseClock)
	c.at = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *leaseHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h, c.at = old[:len(old)-1], -1
	return c
}
