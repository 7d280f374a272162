package testcluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/internal/testcluster"
	"reconcile/object"
	"reconcile/raftstore"
)

// beats are the times of the answers to heartbeats, by who sent them to whom.
type beats struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (b *beats) note(from, to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at[from+" to "+to] = append(b.at[from+" to "+to], time.Now())
}

// gap is the longest time without an answer to a heartbeat of a server, and to whom.
func (b *beats) gap(sender string, since time.Time) (longest time.Duration, way string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w, at := range b.at {
		if !strings.HasPrefix(w, sender+" ") {
			continue
		}
		last := since
		for _, t := range append(at, time.Now()) {
			if t.Before(since) {
				continue
			}
			if d := t.Sub(last); d > longest {
				longest, way = d, w
			}
			last = t
		}
	}
	return longest, way
}

// TestHeartbeatsDuringTheLargestCommit: 10,000 objects go through the writer into the log of disks that take half a second for each write, and the leader's heartbeats are answered every 100 ms all the while: none waits for a disk, for raft's loop, or for one of the pieces. The other
// half of the 200 ms that are demanded is left to machines, whose time does not pass here.
func TestHeartbeatsDuringTheLargestCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &beats{at: map[string][]time.Time{}}
		c := testcluster.Start(t, testcluster.Config{
			MessageTimeout: 30 * time.Second, Answered: seen.note,
			Change: func(cfg *raftstore.Config) { cfg.Heartbeat = time.Second },
		})
		c.Must(testcluster.Create(testcluster.Namespace("d")))
		leader, before := c.Leader(), c.Leader().Store().Leader()
		for i := range 3 {
			c.SlowDisk(i, 500*time.Millisecond)
		}
		all := objectsOfNoise(0)
		from := time.Now()
		res := c.Must(testcluster.Create(all...))
		for i := range 3 {
			if err := c.Server(i).Store().WaitRev(t.Context(), res.Rev); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(from)
		longest, way := seen.gap(leader.ID, from)
		t.Logf("10,000 objects took %s; the longest time without an answer to a heartbeat was %s, from %s", took, longest, way)
		if took < 3*time.Second {
			t.Errorf("it took %s: the disks were too quick to prove anything", took)
		}
		if longest > 100*time.Millisecond || longest == 0 {
			t.Errorf("from %s no heartbeat was answered for %s", way, longest)
		}
		if now := leader.Store().Leader(); now != before {
			t.Errorf("the leader was %+v, and now %+v", before, now)
		}
	})
}

// noise is text that no compression makes smaller by much.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + r.IntN(64))
	}
	return string(b)
}

// BenchmarkLargestCommit is the same on the machine's disk and in its time, with three servers in one process: each operation commits 10,000 new objects. It
// reports the longest time without an answer to a heartbeat of the leader, and how late the machine woke a goroutine that only sleeps: the gap cannot be
// shorter than that, and 100 ms without it.
func BenchmarkLargestCommit(b *testing.B) {
	seen := &beats{at: map[string][]time.Time{}}
	c := testcluster.Start(b, testcluster.Config{
		Disk: true, MessageTimeout: 10 * time.Second, Answered: seen.note,
		Change: func(cfg *raftstore.Config) { cfg.Heartbeat = time.Second },
	})
	c.Must(testcluster.Create(testcluster.Namespace("d")))
	leader, before := c.Leader(), c.Leader().Store().Leader()
	var longest, late time.Duration
	ctx, stop := context.WithCancel(b.Context())
	var probe sync.WaitGroup
	probe.Go(func() {
		for ctx.Err() == nil {
			t := time.Now()
			time.Sleep(10 * time.Millisecond)
			late = max(late, time.Since(t)-10*time.Millisecond)
		}
	})
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		all := objectsOfNoise(n)
		b.StartTimer()
		from := time.Now()
		res := c.Must(testcluster.Create(all...))
		for i := range 3 {
			if err := c.Server(i).Store().WaitRev(b.Context(), res.Rev); err != nil {
				b.Fatal(err)
			}
		}
		d, _ := seen.gap(leader.ID, from)
		longest = max(longest, d)
	}
	stop()
	probe.Wait()
	b.ReportMetric(float64(longest.Milliseconds()), "ms-gap")
	b.ReportMetric(float64(late.Milliseconds()), "ms-late")
	if now := leader.Store().Leader(); now != before {
		b.Errorf("the leader was %+v, and now %+v", before, now)
	}
}

// objectsOfNoise are 10,000 objects of 1 KiB, new for each n.
func objectsOfNoise(n int) []object.Object {
	var all []object.Object
	for i := range 10000 {
		all = append(all, &corev1.ConfigMap{ObjectMeta: configMap(fmt.Sprintf("c%d-%05d", n, i)).ObjectMeta, Data: map[string]string{"noise": noise(uint64(n*10000+i), 1000)}})
	}
	return all
}
