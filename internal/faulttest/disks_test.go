package faulttest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// F9: a disk is full for some seconds, from any write on. Writes go on elsewhere within 10 s, and the member is back within 30 s of its space.
func TestF9DiskFull(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 4, 2000)
	c := faulttest.Start(t, faulttest.Config{Disks: true})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		m := c.Leader()
		if rounds.Made()%3 == 0 {
			m = c.Followers(m)[c.IntN(2)]
		}
		m.Disk.Break(faulttest.DiskFaults{FullFrom: 1 + rounds.Made()*37%200}) // each of 200 in its turn
		faulttest.Pause(2 * time.Second)
		outages = append(outages, load.Acknowledged(10*time.Second))
		m.Disk.Break(faulttest.DiskFaults{})
		m.Revive()
		load.AcknowledgedOnAll(30 * time.Second)
	}
	faulttest.Report(t, "F9 disk full", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}

// F10: the fsyncs of one member are slow. There are at most three elections, and writes are acknowledged within 10 s.
func TestF10SlowSync(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 1, 8)
	c := faulttest.Start(t, faulttest.Config{Disks: true, Heartbeat: time.Second})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		before := c.Term()
		m := c.Leader()
		if rounds.Made()%2 == 0 {
			m = c.Followers(m)[c.IntN(2)]
		}
		m.Disk.Break(faulttest.DiskFaults{SlowSync: []time.Duration{5000, 2000, 500, 50}[(rounds.Made()/2)%4] * time.Millisecond})
		for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
			outages = append(outages, load.Acknowledged(10*time.Second))
			faulttest.Pause(time.Second)
		}
		if after := c.Term(); after > before+3 {
			t.Errorf("the term grew from %d to %d while one member's disk was slow", before, after)
		}
		m.Disk.Break(faulttest.DiskFaults{})
		load.AcknowledgedOnAll(30 * time.Second)
	}
	faulttest.Report(t, "F10 slow fsync", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}

// F11: an fsync fails. The member ends at once, with an error, and never tries again; the others go on.
func TestF11SyncFails(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 4, 60)
	c := faulttest.Start(t, faulttest.Config{Disks: true})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		m := c.Leader()
		if rounds.Made()%2 == 0 {
			m = c.Followers(m)[c.IntN(2)]
		}
		faults := faulttest.DiskFaults{SyncErrorFrom: 1 + c.IntN(20)}
		if rounds.Made()%4 == 3 {
			faults = faulttest.DiskFaults{WriteError: true}
		}
		m.Disk.Break(faults)
		if err := m.Exit(15 * time.Second); err == nil || strings.Contains(err.Error(), "still ran") {
			t.Errorf("a member whose disk fails ended with %v; want an error's code, at once", err)
		}
		outages = append(outages, load.Acknowledged(10*time.Second))
		m.Disk.PowerCut(c.Float64()) // nobody knows what such a disk holds
		m.Start()
		load.Acknowledged(10 * time.Second)
	}
	faulttest.Report(t, "F11 fsync or write EIO", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}

// F14: a member loses its disk: its emptied folder is refused, and a new member takes its place while another is away.
func TestF14MemberReplaced(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 2, 200)
	c := faulttest.Start(t, faulttest.Config{})
	load := c.Load(faulttest.LoadConfig{})
	for rounds.Next() {
		faulttest.Pause(300 * time.Millisecond)
		lost := c.Followers(c.Leader())[c.IntN(2)]
		lost.Kill()
		if err := os.RemoveAll(lost.Data()); err != nil {
			t.Fatal(err)
		}
		if err := lost.TryStart(); err == nil || !strings.Contains(err.Error(), "join again") {
			t.Errorf("a member with an emptied folder answered %v; want that it is refused, with the way back", err)
		}
		fresh := c.Join()
		c.Admin("add-nonvoter", fresh, 20*time.Second)
		c.Admin("add-voter", fresh, 20*time.Second)
		c.Admin("remove", lost, 20*time.Second)
		load.Replace(lost, fresh)
		c.Forget(lost)
		leader := c.Leader()
		if leader == fresh {
			leader = c.Followers(fresh)[0]
		}
		leader.Kill() // the new one is needed for a majority
		load.Settled(20 * time.Second)
		leader.Start()
		load.Settled(20 * time.Second)
	}
	faulttest.Report(t, "F14 member replaced", rounds.Made(), load.Finish(rounds.Made()*20), nil)
}
