package sequencer

import "time"

// clock is the time of one tenure. It goes by the monotonic clock, and follows the wall clock: a small difference at once, a great one only
// after the wall clock has kept to it for a while, for somebody may have set it wrong. So a machine whose clock stands years ahead for a minute
// writes no stamp of then, and one that is set back keeps no wake from coming. It goes back only to undo what it took over from the wall clock
// itself, and never behind what was the cluster's time before. What has to be judged by age alone (leases) is measured on the monotonic clock.
type clock struct {
	wall func() time.Time
	last time.Time // without a monotonic reading
	at   time.Time // with one: when last was
	// floor is what the time would be had this tenure's wall clock never been looked at.
	floor time.Time
	// off is how far the wall clock is ahead, since offSince (monotonic), if that is more than drift; offSince is zero if it is not.
	off      time.Duration
	offSince time.Time
}

const (
	// drift is the difference to the wall clock that is followed at once.
	drift = time.Second
	// settled is how long the wall clock must keep to a greater one before it is followed.
	settled = 5 * time.Minute
)

// newClock starts a clock at the cluster's time, as far as it is known. live tells that it is not only the time of the last entry, which may
// be long ago, but that of now: else the wall clock is believed if it is later.
func newClock(wall func() time.Time, known time.Time, live bool) *clock {
	c := &clock{wall: wall, last: known.Round(0), at: time.Now(), floor: known.Round(0)}
	if !live {
		c.last = later(wall().Round(0), c.last)
	}
	c.now()
	return c
}

// likely is the time that the leader's clock shows, as far as this server can tell: by its own wall clock where that agrees with the cluster's time
// within drift, for the leader's does too, and a follower hears of that time late; a plan is to choose among pods by the ages that the commit will.
func likely(wall, known time.Time, live bool) time.Time {
	switch {
	case !live:
		return later(wall, known)
	case wall.Sub(known).Abs() <= drift:
		return wall
	}
	return known
}

// now moves the clock and returns its time.
func (c *clock) now() time.Time {
	at := time.Now()
	passed := at.Sub(c.at)
	c.at, c.floor = at, c.floor.Add(passed)
	next := c.last.Add(passed)
	wall := c.wall().Round(0)
	off := wall.Sub(next)
	switch {
	case off.Abs() <= drift:
		c.offSince = time.Time{}
		if next = wall; off < 0 { // it goes on at half its pace until the wall clock has come
			next = later(wall, c.last.Add(passed/2))
		}
	case c.offSince.IsZero() || (off-c.off).Abs() > drift:
		c.off, c.offSince = off, at
	case at.Sub(c.offSince) >= settled:
		next, c.offSince = later(wall, c.floor), time.Time{}
	}
	c.last = next
	return c.last
}
