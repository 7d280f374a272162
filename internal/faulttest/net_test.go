package faulttest_test

import (
	"testing"
	"time"

	"reconcile/internal/faulttest"
	"reconcile/internal/netnstest"
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

// sky is weather between members. elections is how many a minute are allowed at the timeouts of production.
type sky struct {
	name      string
	elections int
	set       func(c *faulttest.Cluster, leader *faulttest.Member)
}

// everywhere is the same weather from each member to each other.
func everywhere(w netnstest.Weather) func(*faulttest.Cluster, *faulttest.Member) {
	return func(c *faulttest.Cluster, _ *faulttest.Member) {
		for _, from := range c.Members {
			for _, to := range c.Followers(from) {
				c.Weather(from, to, w)
			}
		}
	}
}

var skies = []sky{
	{"5 % lost", 1, everywhere(netnstest.Weather{Loss: 0.05})},
	{"5 % lost, 5 % twice, 50±40 ms, 10 % overtake", 1, everywhere(netnstest.Weather{Loss: 0.05, Duplicate: 0.05, Reorder: 0.1, Delay: 50 * time.Millisecond, Jitter: 40 * time.Millisecond})},
	{"30 % lost", 60, everywhere(netnstest.Weather{Loss: 0.3})},
	{"200±100 ms, overtaking, 10 % twice", 10, everywhere(netnstest.Weather{Delay: 200 * time.Millisecond, Jitter: 100 * time.Millisecond, Duplicate: 0.1})},
	{"half of what the leader hears is lost", 30, func(c *faulttest.Cluster, leader *faulttest.Member) {
		for _, f := range c.Followers(leader) {
			c.Weather(f, leader, netnstest.Weather{Loss: 0.5})
		}
	}},
	{"what the leader says takes 300 ms, to one of them", 1, func(c *faulttest.Cluster, leader *faulttest.Member) {
		c.Weather(leader, c.Followers(leader)[0], netnstest.Weather{Delay: 300 * time.Millisecond})
	}},
}

// F6: packets are lost, late, twice and out of their order; before a merge only the first two for some seconds.
func TestF6Weather(t *testing.T) {
	for i, s := range skies {
		t.Run(s.name, func(t *testing.T) {
			seconds := faulttest.Rounds(t, 0, []int{8, 8, 0, 0, 0, 0}[i], 120)
			c := faulttest.Start(t, faulttest.Config{Air: true, Heartbeat: time.Second})
			load := c.Load(faulttest.LoadConfig{})
			leader := c.Leader()
			before := c.Term()
			s.set(c, leader)
			for seconds.Next() {
				faulttest.Pause(time.Second)
			}
			after := c.Term()
			c.Heal()
			if allowed := s.elections * (1 + seconds.Made()/60); after > before+uint64(allowed) {
				t.Errorf("the term grew from %d to %d in %d s; %d more are allowed", before, after, seconds.Made(), allowed)
			}
			load.AcknowledgedOnAll(30 * time.Second)
			faulttest.Report(t, "F6 "+s.name, seconds.Made(), load.Finish(seconds.Made()*5), nil)
		})
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
