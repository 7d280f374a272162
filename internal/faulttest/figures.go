package faulttest

import (
	"os"
	"testing"
	"time"

	"reconcile/internal/fp"
)

// Failpoints tells whether this build has failpoints (-tags failpoints).
const Failpoints = fp.Enabled

// The variables that choose how much is tried: FaultsVariable is "" (a glimpse, for `go test ./...`), "pr" or "nightly"; FaultTimeVariable bounds
// the time of the rounds of each fault, as time.ParseDuration reads it.
const (
	FaultsVariable    = "FAULTS"
	FaultTimeVariable = "FAULT_TIME"
)

// RoundCount counts the rounds of one fault.
type RoundCount struct {
	made, want int
	deadline   time.Time
}

// Bound is how long something may take that is asked to take no longer than the given time: so long nightly, when nothing else is at work, and a minute
// before a merge, when a test that fails should show a fault and not how busy the machine's disk is. What it took is printed in any case.
func Bound(asked time.Duration) time.Duration {
	if os.Getenv(FaultsVariable) == "nightly" {
		return asked
	}
	return max(asked, time.Minute)
}

// Rounds is how often a fault is tried: so often in a glimpse, before a merge, nightly. 0 skips the test.
func Rounds(t testing.TB, glimpse, pr, nightly int) *RoundCount {
	t.Helper()
	r := &RoundCount{deadline: time.Now().Add(time.Hour)}
	switch tier := os.Getenv(FaultsVariable); tier {
	case "":
		r.want = glimpse
	case "pr":
		r.want = pr
	case "nightly":
		r.want = nightly
	default:
		t.Fatalf("%s is %q; want nothing, pr or nightly", FaultsVariable, tier)
	}
	if r.want == 0 {
		t.Skipf("skipped: not part of this tier (%s=%q)", FaultsVariable, os.Getenv(FaultsVariable))
	}
	if limit := os.Getenv(FaultTimeVariable); limit != "" {
		d, err := time.ParseDuration(limit)
		if err != nil {
			t.Fatalf("%s: %v", FaultTimeVariable, err)
		}
		r.deadline = time.Now().Add(d)
	}
	return r
}

// Next tells whether there is another round, and counts it. The first always is.
func (r *RoundCount) Next() bool {
	if r.made >= r.want || (r.made > 0 && time.Now().After(r.deadline)) {
		return false
	}
	r.made++
	return true
}

// Made is how many rounds were begun.
func (r *RoundCount) Made() int { return r.made }

// Pause lets the load go on for a while: a fault has no condition to wait for.
func Pause(d time.Duration) { time.Sleep(d) }
