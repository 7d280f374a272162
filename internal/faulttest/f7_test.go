package faulttest_test

import (
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// F7: the leader or a follower stands still for a while and then goes on as if nothing had been, and reads are held up between the
// proof of leadership and the look at the state.
func TestF7Paused(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 20, 200)
	c := faulttest.Start(t, faulttest.Config{})
	load := c.Load(faulttest.LoadConfig{})
	for rounds.Next() {
		faulttest.Pause(100*time.Millisecond + c.UpTo(300*time.Millisecond))
		m := c.Leader()
		if rounds.Made()%3 == 0 {
			m = c.Followers(m)[c.IntN(2)]
		}
		if faulttest.Failpoints {
			c.SetFailpoints("raftstore/read-verified=sleep:300ms")
		}
		m.Pause()
		faulttest.Pause(100*time.Millisecond + c.UpTo(1500*time.Millisecond))
		m.Resume()
		load.Acknowledged(20 * time.Second)
		c.SetFailpoints("")
	}
	faulttest.Report(t, "F7 SIGSTOP", rounds.Made(), load.Finish(rounds.Made()*60), nil)
}
