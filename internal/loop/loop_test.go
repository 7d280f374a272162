package loop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// run starts a loop under synctest and returns it with the offsets and reasons of its runs.
func run(t *testing.T, cfg Config) (*Loop, *[]string) {
	t.Helper()
	start := time.Now()
	var runs []string
	do := cfg.Do
	cfg.Name, cfg.Log = "test", quiet()
	cfg.Do = func(ctx context.Context, why Reason) (time.Duration, error) {
		runs = append(runs, why.String()+"@"+time.Since(start).String())
		if do == nil {
			return 0, nil
		}
		return do(ctx, why)
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	synctest.Wait()
	return l, &runs
}

func want(t *testing.T, runs *[]string, want ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(*runs, want) {
		t.Errorf("runs %v, want %v", *runs, want)
	}
}

func TestCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, runs := run(t, Config{Settle: 10 * time.Millisecond})
		time.Sleep(time.Second)
		for range 5 {
			l.Trigger()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		want(t, runs, "resync@0s", "triggered@1.01s")
	})
}

func TestTriggerDuringRunIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, runs := run(t, Config{Do: func(ctx context.Context, why Reason) (time.Duration, error) {
			time.Sleep(time.Second)
			return 0, nil
		}})
		l.Trigger()
		l.Trigger()
		time.Sleep(5 * time.Second)
		want(t, runs, "resync@0s", "triggered@1s")
	})
}

func TestBacksOffThenResyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 4
		l, runs := run(t, Config{MinBackoff: time.Second, MaxBackoff: 4 * time.Second, Do: func(context.Context, Reason) (time.Duration, error) {
			if failures > 0 {
				failures--
				return 0, errors.New("no")
			}
			return 0, nil
		}})
		l.Trigger()
		time.Sleep(time.Minute)
		want(t, runs, "resync@0s", "resync@1s", "resync@3s", "resync@7s", "resync@11s", "triggered@11s")
		if s := l.Status(); s.Runs != 6 || s.Failures != 4 || s.Failing != 0 || s.Err != nil {
			t.Errorf("status %+v", s)
		}
	})
}

func TestResyncAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		_, runs := run(t, Config{Resync: 10 * time.Second, Do: func(context.Context, Reason) (time.Duration, error) {
			if first {
				first = false
				return 3 * time.Second, nil
			}
			return 0, nil
		}})
		time.Sleep(25 * time.Second)
		want(t, runs, "resync@0s", "triggered@3s", "resync@10s", "resync@20s")
	})
}

func TestValidateListsAll(t *testing.T) {
	err := Config{Settle: -1}.Validate()
	if got := len(err.(interface{ Unwrap() []error }).Unwrap()); got != 4 {
		t.Errorf("Validate found %d faults in %v, want 4", got, err)
	}
}
