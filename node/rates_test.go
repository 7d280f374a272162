package node

import (
	"testing"
	"time"
)

// TestRates: how fast a counter of CPU time grew since the look before; one that has begun again, or was not seen before, has no rate yet.
func TestRates(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	var r rates
	at := func(seconds int, cpu time.Duration) growth {
		return growth{at: start.Add(time.Duration(seconds) * time.Second), cpu: cpu}
	}
	for i, c := range []struct {
		seconds int
		cpu     time.Duration
		rate    uint64
		known   bool
	}{
		{0, 10 * time.Second, 0, false},
		{2, 11 * time.Second, 0, false},   // too soon
		{10, 15 * time.Second, 5e8, true}, // half a processor
		{12, 25 * time.Second, 5e8, true}, // too soon: the last is told again
		{20, 16 * time.Second, 1e8, true}, // over ten seconds
		{30, time.Second, 0, false},       // it has begun again
		{40, 1001 * time.Millisecond, 1e5, true},
	} {
		if g := r.look(map[string]growth{"c": at(c.seconds, c.cpu)})["c"]; g.rate != c.rate || g.known != c.known {
			t.Errorf("look %d: %d %v, want %d %v", i, g.rate, g.known, c.rate, c.known)
		}
	}
	if got := r.look(nil); len(got) != 0 || len(r.seen) != 0 {
		t.Errorf("what is gone is kept: %v", got)
	}
}
