package sequencer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/cluster"
	"reconcile/raftstore"
)

// Sequencer takes the cluster's writes. Its methods may be called by many goroutines, on every server; only the leader's decides.
type Sequencer struct {
	cfg     Config
	store   *raftstore.Store
	decider decider
	// forecasts is the decider of forecasts, which run beside the leader's decisions.
	forecasts decider
	queue     chan *job
	// txns wait for this server to decide them, remote to be sent to the leader.
	txns, remote *txnQueue
	// waiting bounds what the leader has taken and not answered, held what this server's own clients wait for.
	waiting, held *gate
	// reads gathers questions for a read index on a follower.
	reads *raftstore.Rounds[raftstore.Leader, raftstore.ReadPoint]
	ended chan struct{} // closed when Run has returned
	wg    sync.WaitGroup
}

// job is one waiting request.
type job struct {
	req    *Request
	state  atomic.Int32
	answer chan answer // holds one
	leave  func()      // gives its room back, once it is answered or dropped
}

type answer struct {
	res Result
	err error
}

// The states of a job: whoever moves it away from waiting decides whether it is done.
const (
	waiting int32 = iota
	taken
	abandoned
)

// take begins a job that came off the queue, unless its client has given up.
func (j *job) take() bool {
	if j.state.CompareAndSwap(waiting, taken) {
		return true
	}
	j.leave()
	return false
}

func (j *job) reply(res Result, err error) {
	j.leave()
	j.answer <- answer{res, err}
}

// New makes a sequencer; Run must be called for it to do anything.
func New(cfg Config) (*Sequencer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.defaults()
	s := &Sequencer{
		cfg: cfg, store: cfg.Store, queue: make(chan *job, cfg.Queue), txns: newTxnQueue(), remote: newTxnQueue(), ended: make(chan struct{}),
		waiting: &gate{most: cfg.Queue, mostBytes: cfg.QueueBytes}, held: &gate{most: cfg.Queue, mostBytes: cfg.QueueBytes},
		decider: decider{settler: cfg.Settler, admit: cfg.Admit, ranges: cfg.Ranges, budget: cfg.Budget, token: cfg.Token, hasBlob: cfg.Store.HasBlob,
			usages: cfg.Usages, log: cfg.Logger, snapshots: &snapshots{store: cfg.Store}},
	}
	s.forecasts = s.decider
	s.forecasts.snapshots = &snapshots{store: cfg.Store}
	s.reads = raftstore.NewRounds(s.readRound)
	return s, nil
}

// Run decides and proposes while this server leads, until ctx ends or the store fails. It returns after everything that was proposed
// has been answered. Call it once.
func (s *Sequencer) Run(ctx context.Context) error {
	defer close(s.ended)
	defer s.wg.Wait()
	if s.cfg.Forwarder != nil && s.cfg.Txns != nil {
		s.wg.Go(func() { s.forwardTxns(ctx) })
	}
	if s.cfg.Forwarder != nil {
		s.store.Lessor().SetPeer(s)
	}
	s.wg.Go(func() {
		// It ends with ctx or with the store, and has no error to tell then.
		_ = s.store.Lessor().Run(ctx, s.expire)
	})
	for {
		changed := s.store.LeaderChanged()
		if l := s.store.Leader(); l.Self {
			s.lead(ctx, l.Term)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.store.Failed():
			return s.store.Run(ctx)
		case <-s.store.Closed():
			return nil
		case j := <-s.queue: // this server stopped leading after the request was put here
			if j.take() {
				j.reply(Result{}, errAgain)
			}
		case <-s.txns.ready:
			s.rejectTxns()
		case <-changed:
		case <-time.After(retryEvery):
		}
	}
}

// retryEvery is how long a call waits before it looks for a leader again when nothing tells it to. hold is how long it looks:
// clients come again by themselves, and those that a server holds meanwhile would all fall upon the next leader at once. A push
// is held for holdPush, for git does not come again.
const (
	retryEvery = 200 * time.Millisecond
	hold       = time.Second
	holdPush   = 10 * time.Second
)

// Submit commits the request as a whole, or not at all, and returns when it is applied on this server, so that this server's views show
// it. On a follower it goes to the leader. Errors: Kubernetes' StatusErrors (Conflict, AlreadyExists, NotFound, Forbidden, Invalid,
// BadRequest, TooManyRequests: nothing was changed; ServiceUnavailable: no leader was found, nothing was changed; Timeout: nobody
// knows whether it was committed, and it must not be repeated blindly), ErrStale and ErrPlanChanged.
func (s *Sequencer) Submit(ctx context.Context, req Request) (Result, error) {
	leave, err := s.held.enter(weight(&req))
	if err != nil {
		return Result{}, err
	}
	defer leave()
	patience := hold
	if req.Source != "" {
		patience = holdPush
	}
	var res Result
	err = s.withLeader(ctx, patience, func(l raftstore.Leader) error {
		var err error
		if l.Self {
			res, err = s.submitHere(ctx, &req)
		} else {
			res, err = s.submitThere(ctx, l, &req)
		}
		return err
	})
	return res, err
}

// withLeader calls f with the leader, again while f fails with errAgain. It waits for a leader for patience from when it first has to, as
// long as ctx allows.
func (s *Sequencer) withLeader(ctx context.Context, patience time.Duration, f func(raftstore.Leader) error) error {
	var limit <-chan time.Time
	var last error
	for {
		changed := s.store.LeaderChanged()
		l := s.store.Leader()
		if l.Self || (l.ID != "" && s.cfg.Forwarder != nil) {
			if last = f(l); !errors.Is(last, errAgain) {
				return last
			}
		}
		if limit == nil {
			t := time.NewTimer(patience)
			defer t.Stop()
			limit = t.C
		}
		select {
		case <-changed:
		case <-time.After(retryEvery):
		case <-s.ended:
			return apierrors.NewServiceUnavailable("this server is stopping; nothing was changed")
		case <-ctx.Done():
			return apierrors.NewTimeoutError(fmt.Sprintf("no leader took the request before its time ran out; nothing was changed (%v)", last), 1)
		case <-limit:
			return apierrors.NewServiceUnavailable(noLeader(patience, last))
		}
	}
}

func noLeader(patience time.Duration, last error) string {
	text := fmt.Sprintf("no leader within %s; nothing was changed, try again", patience)
	if last != nil {
		text += fmt.Sprintf(" (%v)", last)
	}
	return text
}

func (s *Sequencer) submitHere(ctx context.Context, req *Request) (Result, error) {
	leave, err := s.waiting.enter(weight(req))
	if err != nil {
		return Result{}, err
	}
	j := &job{req: req, answer: make(chan answer, 1), leave: leave}
	s.queue <- j // never blocks: it has room for all that the gate lets in
	select {
	case a := <-j.answer:
		return a.res, a.err
	case <-s.ended:
	case <-ctx.Done():
	}
	if j.state.CompareAndSwap(waiting, abandoned) {
		return Result{}, apierrors.NewTimeoutError("the write waited too long for its turn; nothing was changed", 1)
	}
	select {
	case a := <-j.answer:
		return a.res, a.err
	default:
	}
	return Result{}, unknownOutcome(ctx.Err())
}

// Forecast decides the request on the newest committed state that this server has, as Submit would, and commits nothing. Call Barrier
// before if writes acknowledged elsewhere must be seen. The outcome's views may be kept as long as its changes are rendered.
func (s *Sequencer) Forecast(ctx context.Context, req Request) (Outcome, error) {
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	v := s.store.View()
	known, live := s.store.Now()
	now := likely(s.cfg.Now().Round(0), known, live)
	dec, err := s.forecasts.decide(cluster.NewView(v), rawOf(v), &req, now)
	if err != nil {
		return Outcome{}, err
	}
	return dec.outcome, nil
}

// StageBlob brings bytes to all servers under their digest, for a Raw to refer to. See raftstore.StageBlob.
func (s *Sequencer) StageBlob(ctx context.Context, body []byte) (string, error) {
	leave, err := s.held.enter(int64(len(body)))
	if err != nil {
		return "", err
	}
	defer leave()
	var digest string
	err = s.withLeader(ctx, holdPush, func(l raftstore.Leader) error {
		var err error
		if l.Self {
			digest, err = s.stageHere(ctx, body)
		} else {
			digest, err = s.stageThere(ctx, l, body)
		}
		if errors.Is(err, raftstore.ErrNotLeader) {
			return fmt.Errorf("%w: %w", errAgain, err)
		}
		return err
	})
	return digest, err
}

// stageHere stages by this server, which leads, unless too much waits there already.
func (s *Sequencer) stageHere(ctx context.Context, body []byte) (string, error) {
	leave, err := s.waiting.enter(int64(len(body)))
	if err != nil {
		return "", err
	}
	defer leave()
	return s.store.StageBlob(ctx, body)
}

// Barrier returns when this server's views show every write that was acknowledged anywhere before the call.
func (s *Sequencer) Barrier(ctx context.Context) error {
	return s.withLeader(ctx, hold, func(l raftstore.Leader) error {
		if l.Self {
			_, err := s.store.ReadIndex(ctx)
			return again(err)
		}
		// One message asks for all reads that wait on this server.
		p, err := s.reads.Ask(ctx, l)
		if err != nil {
			return err
		}
		return s.store.WaitPoint(ctx, p)
	})
}

// readTimeout bounds a question for a read index.
const readTimeout = 5 * time.Second

// readRound asks the leader for a read index for all that wait.
func (s *Sequencer) readRound(leaders []raftstore.Leader) ([]raftstore.ReadPoint, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	p, _, err := s.readThere(ctx, leaders[len(leaders)-1])
	if err != nil {
		return nil, err
	}
	return slices.Repeat([]raftstore.ReadPoint{p}, len(leaders)), nil
}

// again marks the errors of leadership as worth another try.
func again(err error) error {
	if errors.Is(err, raftstore.ErrNotLeader) {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	return err
}

func rawOf(v *raftstore.View) func(string) ([]byte, bool) {
	return func(key string) ([]byte, bool) {
		r, ok := v.Get(key)
		if !ok {
			return nil, false
		}
		return r.Value, true
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
