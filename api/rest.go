package api

import (
	"context"
	"sync/atomic"
	"time"
)

// Watchers of what changes all the time are told several changes at once while the server sends many events: to wake a watcher and to send a
// frame costs many times what one more event in it does. One that has just been told something then rests before it looks again, longestRest at most, and
// one millisecond for each thousand sendings a second of all watchers: below that nobody rests. The first change after a quiet time is told at once.
const (
	longestRest = 50 * time.Millisecond
	restWindow  = 100 * time.Millisecond
	// restEach is how long a rest is for each sending in a window.
	restEach = time.Millisecond / (time.Second / restWindow * 10)
)

// sendings counts how often watchers are sent something. It is safe for use by several goroutines.
type sendings struct {
	// window is the number of the window of time that is counted now, count its sendings, last those of the one before.
	window, count, last atomic.Int64
}

// add counts one more at a time, given as what has passed since some moment, and returns how long who sent it is to rest.
func (s *sendings) add(at time.Duration) time.Duration {
	now, was := int64(at/restWindow), s.window.Load()
	if now > was && s.window.CompareAndSwap(was, now) {
		n := s.count.Swap(0)
		if now > was+1 {
			n = 0
		}
		s.last.Store(n)
	}
	n := max(s.count.Add(1), s.last.Load())
	d := min(time.Duration(n)*restEach, longestRest)
	if d < time.Millisecond {
		return 0
	}
	return d
}

// rester lets one watcher rest between its sendings.
type rester struct {
	all   *sendings
	zero  time.Time
	last  time.Duration
	timer *time.Timer
}

// sent is called after each sending. It waits if the server has much to send, and this watcher was sent something shortly before too: others would
// wait for nothing.
func (r *rester) sent(ctx context.Context) {
	at := time.Since(r.zero)
	d, before := r.all.add(at), at-r.last
	r.last = at
	if d == 0 || before > 4*longestRest {
		return
	}
	if r.timer == nil {
		r.timer = time.NewTimer(d)
	} else {
		r.timer.Reset(d)
	}
	select {
	case <-r.timer.C:
	case <-ctx.Done():
	}
	r.last = time.Since(r.zero)
}

// stop gives the timer back.
func (r *rester) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}
