package api

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// guard is pace for an answer that is written bit by bit as things happen, and flushed each time: a client that does not read must not hold its
// goroutine. To set a deadline and to take it back would cost more than all else that is done for an event, so one timer looks, at most once in
// the limit and not at all while nothing is written, whether what is being written has taken too long. It is an io.Writer for one goroutine.
type guard struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	limit time.Duration
	zero  time.Time
	// began is when what is not yet flushed was first written, in nanoseconds after zero; 0 if everything is flushed. taken is how much was
	// written since.
	began atomic.Int64
	taken int

	// armed tells that the timer will look.
	armed atomic.Bool
	mu    sync.Mutex
	timer *time.Timer
	// closed tells that the answer is over, and w not to be touched any more; cut that it was ended because the client did not read in time.
	closed, cut bool
}

func newGuard(w http.ResponseWriter, limit time.Duration) *guard {
	return &guard{w: w, rc: http.NewResponseController(w), limit: limit, zero: time.Now()}
}

// Write implements io.Writer.
func (g *guard) Write(b []byte) (int, error) {
	done := 0
	for {
		part := b[done:min(len(b), done+paceBytes)]
		g.set(len(part))
		n, err := g.w.Write(part)
		if done += n; err != nil || done == len(b) {
			return done, err
		}
	}
}

func (g *guard) set(n int) {
	if g.began.Load() != 0 && g.taken+n <= paceBytes {
		g.taken += n
		return
	}
	g.taken = n
	g.began.Store(int64(max(time.Since(g.zero), 1)))
	if !g.armed.Load() {
		g.arm()
	}
}

func (g *guard) arm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.armed.Load() {
		return
	}
	g.armed.Store(true)
	if g.timer == nil {
		g.timer = time.AfterFunc(g.limit, g.look)
		return
	}
	g.timer.Reset(g.limit)
}

// look ends the answer if it has waited for its client for too long.
func (g *guard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	began := g.began.Load()
	if began == 0 {
		g.armed.Store(false)
		// Who begins to write now sees that, or is seen here.
		if began = g.began.Load(); began == 0 {
			return
		}
		g.armed.Store(true)
	}
	left := g.limit - (time.Since(g.zero) - time.Duration(began))
	if left > 0 {
		g.timer.Reset(left)
		return
	}
	g.cut = true
	_ = g.rc.SetWriteDeadline(time.Unix(1, 0)) // only a test's writer has none
}

// flush sends what was written.
func (g *guard) flush() error {
	if g.began.Load() == 0 {
		g.set(0) // the header may be unsent
	}
	if err := g.rc.Flush(); err != nil {
		return err
	}
	g.began.Store(0)
	return nil
}

// late tells of a failed write whether it is the client who did not read in time.
func (g *guard) late() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cut
}

// close must be called before the handler returns.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
}
