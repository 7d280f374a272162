package faulttest_test

import (
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// F5, flapping: the leader is cut off and back every second.
func TestF5Flapping(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 0, 60)
	c := faulttest.Start(t, faulttest.Config{Network: true})
	load := c.Load(faulttest.LoadConfig{Timeout: 700 * time.Millisecond})
	for rounds.Next() {
		c.Partition(c.Members[rounds.Made()%3])
		faulttest.Pause(500 * time.Millisecond)
		c.Heal()
		faulttest.Pause(500 * time.Millisecond)
	}
	load.AcknowledgedOnAll(20 * time.Second)
	faulttest.Report(t, "F5 flapping 1 Hz", rounds.Made(), load.Finish(rounds.Made()*20), nil)
}

// F6: packets are lost: 5 of a hundred, which hardly costs an election at the timeouts of production, and 30, which may.
func TestF6Loss(t *testing.T) {
	for percent, elections := range map[int]uint64{5: 1, 30: 60} {
		rounds := faulttest.Rounds(t, 0, 0, 60)
		c := faulttest.Start(t, faulttest.Config{Network: true, Heartbeat: time.Second})
		load := c.Load(faulttest.LoadConfig{})
		before := c.Term()
		c.Lose(percent)
		for rounds.Next() {
			faulttest.Pause(time.Second)
		}
		c.Lose(0)
		if after := c.Term(); after > before+elections*uint64(1+rounds.Made()/60) {
			t.Errorf("the term grew from %d to %d in %d s at %d %% loss", before, after, rounds.Made(), percent)
		}
		load.AcknowledgedOnAll(30 * time.Second)
		faulttest.Report(t, "F6 packets lost", rounds.Made(), load.Finish(rounds.Made()*5), nil)
	}
}

// F8: the clocks of members are set, an hour or ten years, forwards and backwards, one after the other. There is no election.
func TestF8ClocksSet(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 4, 40)
	if !faulttest.Failpoints {
		t.Skip("skipped: needs -tags failpoints")
	}
	c := faulttest.Start(t, faulttest.Config{Heartbeat: time.Second})
	load := c.Load(faulttest.LoadConfig{})
	before := c.Term()
	for rounds.Next() {
		skew := []string{"1h", "-1h", "87600h", "-87600h"}[rounds.Made()%4]
		c.Members[rounds.Made()%3].SetFailpoints("wall=skew:" + skew)
		faulttest.Pause(500 * time.Millisecond)
		load.AcknowledgedOnAll(10 * time.Second)
	}
	if after := c.Term(); after != before {
		t.Errorf("the term grew from %d to %d because clocks were set", before, after)
	}
	faulttest.Report(t, "F8 clocks set", rounds.Made(), load.Finish(rounds.Made()*40), nil)
}

// The outage of writes after the leader's death, at the timeouts of production.
func TestOutageAtProductionTimeouts(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 0, 30)
	c := faulttest.Start(t, faulttest.Config{Heartbeat: time.Second})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		faulttest.Pause(500 * time.Millisecond)
		l := c.Leader()
		l.Kill()
		outages = append(outages, load.Acknowledged(20*time.Second))
		l.Start()
	}
	faulttest.Report(t, "leader kill -9, 1 s timeouts", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}
