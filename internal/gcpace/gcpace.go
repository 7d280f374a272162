// Package gcpace sets how much garbage the process may hold beside what lives, by how much lives. Go's default is as much again: right for a
// small process, a gigabyte too much for a store of a million keys, most of which are values that the collector need not look into. And it gives
// memory back that the process holds for nothing when it has become quiet, as after a start: the loading of such a store leaves a third as much.
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
	// room is how many bytes of garbage are always allowed, least and most what GOGC may become, hurried the most of a process that is busy: one that
	// allocates as much as lives within a second. Each collection takes a processor from its requests, and one of two is much.
	room        = 128 << 20
	least, most = 30, 100
	hurried     = 400
	// interval is how often it is looked at; the share changes by steps, not with each byte.
	interval = time.Second
	step     = 10
	// A process is quiet that allocates less than one part in calm of what lives from one look to the next.
	calm = 50
	// One that has been quiet for so many looks keeps less: spare bytes, or one part in spareShare of what lives. Before that it may be busy again soon,
	// and would only get the same memory back from the system.
	long       = 10
	spare      = 32 << 20
	spareShare = 8
)

// look is what the runtime says: what lived at the end of the last collection, what was ever allocated, what the heap keeps from the
// system, in bytes.
type look struct{ live, allocated, held uint64 }

func now() look {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return look{live: s[0].Value.Uint64(), allocated: s[1].Value.Uint64(), held: s[2].Value.Uint64() + s[3].Value.Uint64() + s[4].Value.Uint64()}
}

// Run sets GOGC until ctx ends, and puts back what it was. It blocks. One at a time may run in a process; a second one does no harm.
func Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	was := debug.SetGCPercent(most)
	defer debug.SetGCPercent(was)
	share, last, kept, calmFor := most, now(), uint64(0), 0
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		at := now()
		if next := percent(at.live, at.allocated-last.allocated); next != share {
			debug.SetGCPercent(next)
			share = next
		}
		if calmFor++; !quiet(last, at) {
			calmFor = 0
		}
		if wasteful(at, kept, calmFor) {
			debug.FreeOSMemory()
			at = now()
			kept = at.held - min(at.held, at.live)
		}
		last = at
	}
}

// percent is what GOGC should be while so many bytes live and so many were allocated since the last look: room beside them, in steps.
func percent(live, allocated uint64) int {
	top := most
	if allocated > live {
		top = hurried
	}
	p := top
	if live*uint64(top) > room*100 {
		p = int(room * 100 / live)
	}
	return max(least, p/step*step)
}

// quiet tells whether a process was quiet from one look to the next.
func quiet(from, to look) bool { return (to.allocated-from.allocated)*calm < to.live }

// wasteful tells whether a process that has been quiet for so many looks holds so much for nothing that a collection is worth it: more than room, or
// after a long time spare, beside what the last one could not give back (kept).
func wasteful(at look, kept uint64, calmFor int) bool {
	allowed := uint64(room)
	if calmFor >= long {
		allowed = max(spare, at.live/spareShare)
	}
	return calmFor > 0 && at.held > at.live+kept+min(allowed, room)
}
