package usage

import (
	"context"
	"time"
)

// How often agents are asked, how many at once, and for how long one may think (metrics-server: 15 s and 10 s), onTheWay of it for question and answer.
// first is when the first round begins, and the pause between two at least.
const (
	period   = 15 * time.Second
	first    = time.Second
	patience = 10 * time.Second
	onTheWay = 2 * time.Second
	atOnce   = 64
)

// repeat plays rounds until ctx ends. A round says how long after its beginning the next one is to begin.
func repeat(ctx context.Context, round func(context.Context) (next time.Duration)) error {
	tick := time.NewTimer(first)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		began := time.Now()
		next := round(ctx)
		tick.Reset(max(first, next-time.Since(began)))
	}
}
