// Package gcpace sets how much garbage the process may hold beside what lives, by how much lives. Go's default is as much again: right for a
// small process, a gigabyte too much for a store of a million keys, most of which are values that the collector need not look into.
//
// It owns the process's GOGC and knows nothing else: how much lives is what the runtime says. Who sets GOGC in the environment is obeyed.
package gcpace

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// room is how many bytes of garbage are always allowed, least and most what GOGC may become.
	room        = 128 << 20
	least, most = 30, 100
	// interval is how often it is looked at; the share changes by steps, not with each byte.
	interval = time.Second
	step     = 10
)

// Run sets GOGC until ctx ends, and puts back what it was. It blocks. One at a time may run in a process; a second one does no harm.
func Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	was := debug.SetGCPercent(most)
	defer debug.SetGCPercent(was)
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	now := most
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(sample)
		if next := percent(sample[0].Value.Uint64()); next != now {
			debug.SetGCPercent(next)
			now = next
		}
	}
}

// percent is what GOGC should be while so many bytes live: room beside them, in steps.
func percent(live uint64) int {
	p := most
	if live > room {
		p = int(room * 100 / live)
	}
	return max(least, p/step*step)
}
