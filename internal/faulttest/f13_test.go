package faulttest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// way is how a member is brought to a place at which it is killed.
type way int

const (
	running  way = iota // it comes there by itself
	starting            // when it starts, with a snapshot of its own
	behind              // when it is so far behind that the leader sends a snapshot
	voting              // when the leader is killed
)

// sites are the places of F13: the making, sending, taking over and restoring of a snapshot, with the blobs that it names; the log's writing, cutting and
// files; identity and vote. docs/reliability.md says what a start has to do after each.
var sites = []struct {
	name string
	way  way
}{
	{"snapshot-blobs", running}, {"snapshot-create", running}, {"snapshot-block", running}, {"snapshot-close", running}, {"snapshot-sync", running},
	{"snapshot-rename", running}, {"snapshot-syncdir", running}, {"snapshot-taken", running}, {"snapshot-reap", running},
	{"blob-written", running}, {"blob-sync", running}, {"blob-remove", running},
	{"snapshot-received", behind}, {"blob-fetch", behind}, {"restore", starting}, {"restore", behind}, {"restore-read", starting}, {"restore-read", behind},
	{"restored", starting}, {"restored", behind},
	{"log-write", running}, {"log-written", running}, {"log-cut", running}, {"wal-prepared", running}, {"wal-next", running}, {"wal-drop", running},
	{"identity", running}, {"vote-write", voting}, {"vote-written", voting},
}

// F13: members are killed at every step of a snapshot's taking and installing, and of the log's writing and cutting; every other time the power goes too.
func TestF13KilledInSnapshot(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, len(sites), 30*len(sites))
	if !faulttest.Failpoints {
		t.Skip("skipped: needs -tags failpoints")
	}
	c := faulttest.Start(t, faulttest.Config{Disks: true, SnapshotEntries: 50, TrailingEntries: 50})
	load := c.Load(faulttest.LoadConfig{})
	stop := stageBlobs(t, c)
	defer stop()
	var outages []time.Duration
	for rounds.Next() {
		began := time.Now()
		site := sites[(rounds.Made()-1)%len(sites)]
		m := c.Members[c.IntN(len(c.Members))]
		if !killAt(c, m, "raftstore/"+site.name, site.way) {
			t.Errorf("%s was not reached", site.name)
		}
		for _, dead := range c.Members {
			if !dead.Ended() {
				continue
			}
			if c.IntN(2) == 0 {
				dead.Disk.PowerCut(c.Float64())
			}
			dead.Start()
		}
		t.Logf("%s: %s", site.name, time.Since(began).Round(100*time.Millisecond))
		outages = append(outages, load.Acknowledged(20*time.Second))
		m.SetFailpoints("")
	}
	stop()
	faulttest.Report(t, "F13 kill in snapshot or log", rounds.Made(), load.Finish(rounds.Made()*40), outages)
}

// killAt brings a member to a place, five times if need be, and tells whether it was killed there.
func killAt(c *faulttest.Cluster, m *faulttest.Member, point string, by way) bool {
	for try := range 5 {
		switch by {
		case running:
			m.SetFailpoints(fmt.Sprintf("%s=exit@%d", point, 1+c.IntN(3)))
			return died(m, patience)
		case voting:
			leader := c.Leader()
			if m == leader {
				m = c.Followers(leader)[0]
			}
			m.SetFailpoints(point + "=exit")
			leader.Kill()
			return died(m, patience)
		case starting, behind:
			m.Kill()
			faulttest.Pause(time.Second) // the others go on, and cut their logs
			nth := 1
			if by == behind {
				faulttest.Pause(time.Duration(2+try) * time.Second)
				if strings.HasPrefix(point, "raftstore/restore") {
					nth = 2 // the first is its own snapshot
				}
			}
			// The leader may still have the log for it, from the round before: then it is sent no snapshot, and the next time it is.
			if m.StartWith(fmt.Sprintf("%s=exit@%d", point, nth)) != nil || died(m, patience/4) {
				return true
			}
		}
	}
	return false
}

// patience is how long a member may take to come to a place.
const patience = 40 * time.Second

// died waits until a member has ended by itself, and tells whether it has.
func died(m *faulttest.Member, within time.Duration) bool {
	err := m.Exit(within)
	return err == nil || !strings.Contains(err.Error(), "still ran")
}

// stageBlobs has whoever leads stage blobs and large writes, each in the place of an older one, until the returned function is called.
func stageBlobs(t *testing.T, c *faulttest.Cluster) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, m := range c.Members {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_ = m.StageBlob(ctx, fmt.Sprint(n%3)) // it does not lead, or is away
				faulttest.Pause(300 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
