package etcdapi

import (
	"context"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// readTimeout bounds the question for a read index, patience the wait for a leader while none is known.
const (
	readTimeout = 5 * time.Second
	patience    = time.Second
)

// reads lets all linearizable reads that wait share one read index: whoever comes while a question is on its way joins the next one.
type reads struct {
	ask func(ctx context.Context) error

	mu      sync.Mutex
	next    *round
	running bool
	wg      *sync.WaitGroup
}

type round struct {
	done chan struct{}
	err  error
}

// wait returns when this server's views show everything that was acknowledged before the call.
func (r *reads) wait(ctx context.Context) error {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
		if !r.running {
			r.running = true
			r.wg.Go(r.run)
		}
	}
	mine := r.next
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// run asks as long as somebody waits. Those that are about to ask are let in first.
func (r *reads) run() {
	for {
		runtime.Gosched()
		r.mu.Lock()
		mine := r.next
		r.next = nil
		r.running = mine != nil
		r.mu.Unlock()
		if mine == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		mine.err = r.ask(ctx)
		cancel()
		close(mine.done)
	}
}

// readIndex is what reads asks: a leader is waited for a moment, then the client is told in etcd's words to try again.
func (s *Server) readIndex(ctx context.Context) error {
	if err := s.awaitLeader(ctx); err != nil {
		return err
	}
	if err := s.cfg.Sequencer.Barrier(ctx); err != nil {
		if ctx.Err() != nil {
			return rpctypes.ErrGRPCTimeout
		}
		return submitError(ctx, err)
	}
	return nil
}

// awaitLeader waits until a leader is known, at most patience.
func (s *Server) awaitLeader(ctx context.Context) error {
	var limit <-chan time.Time
	for {
		changed := s.cfg.Store.LeaderChanged()
		if s.cfg.Store.Leader().ID != "" {
			return nil
		}
		if limit == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			limit = timer.C
		}
		select {
		case <-changed:
		case <-limit:
			return rpctypes.ErrGRPCNoLeader
		case <-s.cfg.Store.Closed():
			return rpctypes.ErrGRPCStopped
		case <-ctx.Done():
			return contextError(ctx)
		}
	}
}
