package testcluster_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/internal/testcluster"
	"reconcile/raftstore"
)

// TestCatchesUpWhileMuchIsWritten: a server that was away for long is sent a snapshot, which takes so long that the leader has taken several newer ones, and cut
// its log behind each, when it is there. It must be sent what follows the first, and not a second one, then a third, as long as anybody writes.
func TestCatchesUpWhileMuchIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		var sent atomic.Int32
		c := testcluster.Start(t, testcluster.Config{
			Installing: func(_, _ string) {
				if back.Load() {
					sent.Add(1)
					time.Sleep(5 * time.Second)
				}
			},
			Change: func(cfg *raftstore.Config) {
				cfg.SnapshotEntries, cfg.TrailingEntries, cfg.SnapshotInterval = 50, 10, 500*time.Millisecond
			},
		})
		c.Must(testcluster.Create(testcluster.Namespace("d")))
		away := 0
		for c.Server(away) == c.Leader() {
			away++
		}
		c.Kill(away)
		load := c.StartLoad("d", 4)
		time.Sleep(20 * time.Second)
		back.Store(true)
		c.Restart(away)
		began, first := time.Now(), c.Leader().View().Rev()
		for c.Server(away).View().Rev()+20 < c.Leader().View().Rev() {
			if time.Since(began) > 40*time.Second {
				t.Fatalf("after %s the server has come to revision %d of %d; %d snapshots were sent", time.Since(began), c.Server(away).View().Rev(), c.Leader().View().Rev(), sent.Load())
			}
			time.Sleep(100 * time.Millisecond)
		}
		written := c.Leader().View().Rev() - first
		t.Logf("caught up after %s and %d revisions, with %d snapshots", time.Since(began), written, sent.Load())
		if sent.Load() != 1 || written < 200 {
			t.Errorf("%d snapshots were sent, want one; %d revisions were written meanwhile", sent.Load(), written)
		}
		load.Stop()
		c.Settled()
	})
}
