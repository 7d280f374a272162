package faulttest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// fault is something that goes wrong for a while: begin lets it, says what it was, and returns what ends it.
type fault struct {
	name  string
	begin func(c *faulttest.Cluster, load *faulttest.Load) (what string, end func())
}

// anyone draws a member: the leader, if there is one, as often as all others together.
func anyone(c *faulttest.Cluster) *faulttest.Member {
	if c.IntN(2) == 0 {
		if l := c.FindLeader(time.Second); l != nil {
			return l
		}
	}
	return c.Members[c.IntN(len(c.Members))]
}

// ofDisk is a fault of one member's disk; a member that ends because of it is started again.
func ofDisk(faults func(c *faulttest.Cluster) (string, faulttest.DiskFaults)) func(*faulttest.Cluster, *faulttest.Load) (string, func()) {
	return func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		m := anyone(c)
		what, f := faults(c)
		m.Disk.Break(f)
		return m.ID + " " + what, func() { m.Disk.Break(faulttest.DiskFaults{}) }
	}
}

// attempt is what is asked of a member, which may refuse or be away.
func attempt(do string) func(*faulttest.Cluster, *faulttest.Load) (string, func()) {
	return func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		m := anyone(c)
		err := m.Admin(do, nil, 2*time.Second)
		return fmt.Sprintf("%s (%v)", m.ID, err), func() {}
	}
}

var faults = []fault{
	{"kill -9", func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		m := anyone(c)
		m.Kill()
		return m.ID, func() {}
	}},
	{"power cut", func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		m, keep := anyone(c), c.Float64()
		m.Kill()
		m.Disk.PowerCut(keep)
		return fmt.Sprintf("%s, kept %.2f", m.ID, keep), func() {}
	}},
	{"SIGSTOP", func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		m := anyone(c)
		m.Pause()
		return m.ID, m.Resume
	}},
	{"partition", func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		leader, s := anyone(c), shapes[c.IntN(len(shapes))]
		s.cut(c, leader, c.Followers(leader))
		return fmt.Sprintf("%s (%s in the place of the leader)", s.name, leader.ID), c.Heal
	}},
	{"slow disk", ofDisk(func(c *faulttest.Cluster) (string, faulttest.DiskFaults) {
		d := 20*time.Millisecond + c.UpTo(3*time.Second)
		return d.String(), faulttest.DiskFaults{SlowSync: d}
	})},
	{"full disk", ofDisk(func(*faulttest.Cluster) (string, faulttest.DiskFaults) { return "", faulttest.DiskFaults{Full: true} })},
	{"clock set", func(c *faulttest.Cluster, _ *faulttest.Load) (string, func()) {
		m, skew := anyone(c), []string{"1h", "-1h", "87600h", "-87600h"}[c.IntN(4)]
		return fmt.Sprintf("%s by %s (%v)", m.ID, skew, m.TrySetFailpoints("wall=skew:"+skew+";raftstore/read-verified=sleep:100ms")), func() {
			_ = m.TrySetFailpoints("") // one that was killed has none
		}
	}},
	{"leadership handed over", attempt("transfer")},
	{"snapshot", attempt("snapshot")},
	{"member replaced", func(c *faulttest.Cluster, load *faulttest.Load) (string, func()) {
		fresh, gone := c.Join(), c.Members[c.IntN(len(c.Members)-1)]
		if l := c.FindLeader(time.Second); l != nil {
			_ = l.Admin("add-nonvoter", fresh, time.Second) // else when all else is well again
		}
		return fresh.ID + " for " + gone.ID, func() {
			for _, do := range []string{"add-nonvoter", "add-voter"} {
				c.Admin(do, fresh, 30*time.Second)
			}
			c.Admin("remove", gone, 30*time.Second)
			load.Replace(gone, fresh)
			c.Forget(gone)
		}
	}},
}

// Two or three faults at once, drawn anew each round: what the store promises holds, and when they are over it serves again on every member.
func TestCombinedFaults(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 12, 400)
	if !faulttest.Failpoints {
		t.Skip("skipped: needs -tags failpoints")
	}
	c := faulttest.Start(t, faulttest.Config{Network: true, Disks: true, SnapshotEntries: 100, TrailingEntries: 30})
	load := c.Load(faulttest.LoadConfig{Timeout: 1500 * time.Millisecond})
	var outages []time.Duration
	for rounds.Next() {
		ends, whats := []func(){}, []string{}
		for _, i := range c.Perm(len(faults))[:2+c.IntN(2)] {
			what, end := faults[i].begin(c, load)
			ends, whats = append(ends, end), append(whats, faults[i].name+" "+what)
			faulttest.Pause(c.UpTo(500 * time.Millisecond))
		}
		t.Logf("round %d: %s", rounds.Made(), strings.Join(whats, " + "))
		faulttest.Pause(c.UpTo(time.Second))
		end(c, ends)
		outages = append(outages, load.Acknowledged(30*time.Second))
		load.AcknowledgedOnAll(30 * time.Second)
	}
	faulttest.Report(t, "two or three faults at once", rounds.Made(), load.Finish(rounds.Made()*40), outages)
}

// end ends the faults, and starts the members that are dead: the changes of the membership last, for they need the others.
func end(c *faulttest.Cluster, ends []func()) {
	c.Heal()
	for _, m := range c.Members {
		m.Resume()
		m.Disk.Break(faulttest.DiskFaults{})
	}
	for _, m := range c.Members {
		m.Revive()
	}
	for _, e := range ends {
		e()
	}
}
