package faulttest_test

import (
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// shape is one way in which a network falls apart. deaf is the member that can do nothing meanwhile, if there is one.
type shape struct {
	name string
	cut  func(c *faulttest.Cluster, leader *faulttest.Member, followers []*faulttest.Member)
	deaf func(leader *faulttest.Member, followers []*faulttest.Member) *faulttest.Member
}

func theLeader(l *faulttest.Member, _ []*faulttest.Member) *faulttest.Member { return l }
func aFollower(_ *faulttest.Member, f []*faulttest.Member) *faulttest.Member { return f[0] }
func nobody(*faulttest.Member, []*faulttest.Member) *faulttest.Member        { return nil }

var shapes = []shape{
	{"leader alone", func(c *faulttest.Cluster, l *faulttest.Member, _ []*faulttest.Member) { c.Partition(l) }, theLeader},
	{"follower alone", func(c *faulttest.Cluster, _ *faulttest.Member, f []*faulttest.Member) { c.Partition(f[0]) }, aFollower},
	{"leader is not heard", func(c *faulttest.Cluster, l *faulttest.Member, f []*faulttest.Member) {
		c.Cut(l, f[0])
		c.Cut(l, f[1])
	}, theLeader},
	{"leader hears nothing", func(c *faulttest.Cluster, l *faulttest.Member, f []*faulttest.Member) {
		c.Cut(f[0], l)
		c.Cut(f[1], l)
	}, theLeader},
	{"leader and one follower apart, the other sees both", func(c *faulttest.Cluster, l *faulttest.Member, f []*faulttest.Member) {
		c.Cut(l, f[0])
		c.Cut(f[0], l)
	}, nobody},
}

// maxTerms is how much the term may grow at a heal: who was away asks first whether it could win (pre-vote).
const maxTerms = 2

// F5: the network falls apart. Nothing is acknowledged on the side without a majority, there is a stable leader within 10 s on the other, and the
// term hardly grows when it heals.
func TestF5Partitions(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			rounds := faulttest.Rounds(t, 0, 4, 40)
			c := faulttest.Start(t, faulttest.Config{Network: true})
			load := c.Load(faulttest.LoadConfig{Timeout: 700 * time.Millisecond})
			for rounds.Next() {
				partition(t, c, load, s)
			}
			faulttest.Report(t, "F5 "+s.name, rounds.Made(), load.Finish(rounds.Made()*60), nil)
		})
	}
}

func partition(t *testing.T, c *faulttest.Cluster, load *faulttest.Load, s shape) {
	t.Helper()
	leader := c.Leader()
	followers := c.Followers(leader)
	s.cut(c, leader, followers)
	cut := load.Now()
	// The others, at least, must have a leader that works: a write that begins now is acknowledged.
	load.Acknowledged(10 * time.Second)
	faulttest.Pause(2 * time.Second)
	if n := c.FindLeader(faulttest.Bound(10 * time.Second)); n == nil {
		t.Errorf("no stable leader within 10 s: %+v", c.Statuses())
	}
	before := c.Term()
	heal := load.Now()
	c.Heal()
	if deaf := s.deaf(leader, followers); deaf != nil {
		load.NothingOn(deaf, cut, heal)
	}
	load.AcknowledgedOnAll(20 * time.Second)
	if after := c.Term(); after > before+maxTerms {
		t.Errorf("the term grew from %d to %d when the network healed; at most %d more are allowed", before, after, maxTerms)
	}
}
