package sequencer

import "time"

// clock is the time of one tenure. It follows the wall clock, but never runs backwards and never stands still: where the wall clock is set
// back, it goes on by the monotonic clock from where it is. So a jump of a machine's clock keeps no wake from coming, and what has to
// be judged by age alone (leases) is measured on the monotonic clock.
type clock struct {
	wall func() time.Time
	last time.Time // without a monotonic reading
	at   time.Time // with one: when last was
}

// newClock starts a clock that shows at least the time atLeast.
func newClock(wall func() time.Time, atLeast time.Time) *clock {
	c := &clock{wall: wall, last: atLeast.Round(0), at: time.Now()}
	c.now()
	return c
}

// now moves the clock and returns its time.
func (c *clock) now() time.Time {
	at := time.Now()
	c.last = later(c.wall().Round(0), c.last.Add(at.Sub(c.at)))
	c.at = at
	return c.last
}
