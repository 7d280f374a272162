package faulttest_test

import (
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

func TestMain(m *testing.M) { faulttest.Main(m) }

// F1: the leader is killed under load, again and again.
func TestF1LeaderKilled(t *testing.T) {
	rounds := faulttest.Rounds(t, 2, 30, 300)
	c := faulttest.Start(t, faulttest.Config{})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		faulttest.Pause(200*time.Millisecond + c.UpTo(400*time.Millisecond))
		l := c.Leader()
		l.Kill()
		outages = append(outages, load.Acknowledged(20*time.Second))
		l.Start()
	}
	faulttest.Report(t, "F1 leader kill -9", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}

// F2: all members are killed together.
func TestF2AllKilled(t *testing.T) {
	rounds := faulttest.Rounds(t, 2, 20, 100)
	c := faulttest.Start(t, faulttest.Config{})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		faulttest.Pause(200*time.Millisecond + c.UpTo(400*time.Millisecond))
		for _, m := range c.Members {
			m.Kill()
		}
		for _, m := range c.Members {
			m.Start()
		}
		outages = append(outages, load.Acknowledged(20*time.Second))
	}
	faulttest.Report(t, "F2 all kill -9", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}
