package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestRest: few sendings make nobody wait; many make each watcher wait the longer the more they are, and only one that is sent something again and
// again.
func TestRest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		each  int // sendings in each millisecond, of all watchers
		every time.Duration
		least time.Duration
		most  time.Duration
	}{
		{"few", 0, 10 * time.Millisecond, 0, 0},
		{"8,000 a second", 8, 10 * time.Millisecond, 7 * time.Millisecond, 9 * time.Millisecond},
		{"as long as a rest gets", 200, 10 * time.Millisecond, longestRest, longestRest},
		{"one who hears seldom", 200, 5 * longestRest, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all sendings
				zero := time.Now()
				others := func(d time.Duration) {
					for range d / time.Millisecond {
						time.Sleep(time.Millisecond)
						for range c.each {
							all.add(time.Since(zero))
						}
					}
				}
				r := rester{all: &all, zero: zero, last: -time.Hour}
				defer r.stop()
				others(2 * restWindow)
				r.sent(t.Context())
				others(c.every)
				began := time.Now()
				r.sent(t.Context())
				if d := time.Since(began); d < c.least || d > c.most {
					t.Errorf("it rested %v, want %v to %v", d, c.least, c.most)
				}
			})
		})
	}
}

// TestRestEnds: a watch that is over does not rest, and what was counted long ago makes nobody wait.
func TestRestEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all sendings
		r := rester{all: &all, zero: time.Now()}
		defer r.stop()
		for range 10_000 {
			all.add(0)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		r.sent(ctx)
		if d := time.Since(began); d != 0 {
			t.Errorf("a watch that is over rested %v", d)
		}
		time.Sleep(3 * restWindow)
		r.last = time.Since(r.zero)
		began = time.Now()
		r.sent(t.Context())
		if d := time.Since(began); d != 0 {
			t.Errorf("it rested %v for what was sent long before", d)
		}
	})
}
