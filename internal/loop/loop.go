package loop

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Reason tells a run why it happens.
type Reason int

const (
	// Triggered is a run after one or more calls of Trigger, or at the time that the run before asked for.
	Triggered Reason = iota
	// Resync is the first run, a run that repeats a failed one, and the periodic one. It must trust nothing that an earlier run
	// remembered.
	Resync
)

// String is the reason's name in logs.
func (r Reason) String() string {
	if r == Resync {
		return "resync"
	}
	return "triggered"
}

// Config says what a loop does and how often.
type Config struct {
	// Name is what logs and errors call the loop ("proxy").
	Name string
	// Do is one run. It blocks until done and returns when it wants to be run again at the latest (0: no wish) or an error,
	// after which a Resync follows. Runs never overlap.
	Do func(ctx context.Context, why Reason) (again time.Duration, err error)
	// Settle is how long the loop waits after a trigger for more of them. 0 runs at once.
	Settle time.Duration
	// MinBackoff and MaxBackoff bound the wait after a failed run; it doubles from the first to the second. Defaults: 50 ms, 30 s.
	MinBackoff, MaxBackoff time.Duration
	// Resync is the time between two full runs. 0 means none but the first.
	Resync time.Duration
	// Report, if set, is called after every run by the loop's goroutine. It must not block.
	Report func(Status)
	// Log receives a line when runs begin to fail and when they succeed again. Required.
	Log *slog.Logger
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("loop: Name is empty"))
	}
	if c.Do == nil {
		errs = append(errs, errors.New("loop: Do is missing"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("loop: Log is missing"))
	}
	if c.MinBackoff < 0 || c.MaxBackoff < 0 || c.Resync < 0 || c.Settle < 0 {
		errs = append(errs, errors.New("loop: a duration is negative"))
	}
	return errors.Join(errs...)
}

// Status is what a loop has done so far.
type Status struct {
	// Runs and Failures count runs since the loop was made.
	Runs, Failures int
	// Failing is how many runs in a row have failed; 0 when the last one succeeded.
	Failing int
	// Err is the last run's error.
	Err error
	// LastRun is when the last run ended, LastSuccess when the last good one did.
	LastRun, LastSuccess time.Time
	// Took is how long the last run took.
	Took time.Duration
}

// Loop runs one function. It is made by New and safe for use by many goroutines.
type Loop struct {
	cfg     Config
	trigger chan struct{}
	resync  chan struct{}

	mu     sync.Mutex
	status Status
}

// New makes a loop that does nothing until Run is called.
func New(cfg Config) (*Loop, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = 50 * time.Millisecond
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 30 * time.Second
	}
	return &Loop{cfg: cfg, trigger: make(chan struct{}, 1), resync: make(chan struct{}, 1)}, nil
}

// Trigger asks for a run. It never blocks; any number of calls before the next run starts make one run.
func (l *Loop) Trigger() { signal(l.trigger) }

// TriggerResync asks for a run with reason Resync. It never blocks.
func (l *Loop) TriggerResync() { signal(l.resync) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Status is a copy of what the loop has done so far.
func (l *Loop) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// Run runs the function once with Resync and then whenever there is reason to, until ctx ends. It returns ctx's error after the
// function has returned.
func (l *Loop) Run(ctx context.Context) error {
	why := Resync
	full := newTimer(l.cfg.Resync)
	defer full.stop()
	for ctx.Err() == nil {
		again, err := l.once(ctx, why)
		if why == Resync {
			full.reset(l.cfg.Resync)
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			// A failed run may have done half of its work, so the next one looks at everything. Triggers do not shorten the wait:
			// they would turn a kernel that refuses into a busy loop.
			if !sleep(ctx, l.backoff()) {
				break
			}
			why = Resync
			continue
		}
		why = l.wait(ctx, again, full)
	}
	return ctx.Err()
}

// wait blocks until there is a reason to run and returns it.
func (l *Loop) wait(ctx context.Context, again time.Duration, full *timer) Reason {
	wake := newTimer(again)
	defer wake.stop()
	select {
	case <-ctx.Done():
	case <-l.resync:
		return Resync
	case <-full.c():
		return Resync
	case <-wake.c():
	case <-l.trigger:
		sleep(ctx, l.cfg.Settle)
		// What came while settling is served by the coming run.
		select {
		case <-l.trigger:
		default:
		}
	}
	return Triggered
}

func (l *Loop) once(ctx context.Context, why Reason) (time.Duration, error) {
	start := time.Now()
	again, err := l.cfg.Do(ctx, why)
	end := time.Now()

	l.mu.Lock()
	s := &l.status
	wasFailing := s.Failing
	s.Runs++
	s.LastRun, s.Took, s.Err = end, end.Sub(start), err
	if err != nil && ctx.Err() == nil {
		s.Failures++
		s.Failing++
	} else if err == nil {
		s.Failing, s.LastSuccess = 0, end
	}
	now := *s
	l.mu.Unlock()

	switch {
	case ctx.Err() != nil:
	case err != nil && wasFailing == 0:
		l.cfg.Log.Error(l.cfg.Name+" failed, will be repeated", "reason", why, "error", err)
	case err != nil:
		l.cfg.Log.Debug(l.cfg.Name+" failed again", "reason", why, "times", now.Failing, "error", err)
	case wasFailing > 0:
		l.cfg.Log.Info(l.cfg.Name+" works again", "after", wasFailing)
	}
	if l.cfg.Report != nil {
		l.cfg.Report(now)
	}
	return again, err
}

// backoff is the wait after the failures so far: MinBackoff doubled with each, at most MaxBackoff.
func (l *Loop) backoff() time.Duration {
	n := l.Status().Failing
	d := l.cfg.MinBackoff
	for i := 1; i < n && d < l.cfg.MaxBackoff; i++ {
		d *= 2
	}
	return min(d, l.cfg.MaxBackoff)
}

// sleep waits for d and tells whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// timer is a time.Timer that may be off: with 0 its channel never delivers.
type timer struct{ t *time.Timer }

func newTimer(d time.Duration) *timer {
	if d <= 0 {
		return &timer{}
	}
	return &timer{time.NewTimer(d)}
}

func (t *timer) c() <-chan time.Time {
	if t.t == nil {
		return nil
	}
	return t.t.C
}

func (t *timer) reset(d time.Duration) {
	if t.t != nil {
		t.t.Reset(d)
	}
}

func (t *timer) stop() {
	if t.t != nil {
		t.t.Stop()
	}
}
