package controller

import (
	"testing"
	"time"
)

// TestPaceOfAZone: Kubernetes' arithmetic of zones (ComputeZoneState, ReducedQPSFunc).
func TestPaceOfAZone(t *testing.T) {
	for _, tc := range []struct {
		ready, bad, size int
		want             time.Duration
	}{
		{9, 1, 10, 10 * time.Second},
		{1, 2, 3, 10 * time.Second}, // no more than two
		{1, 3, 4, 0},
		{45, 55, 100, 100 * time.Second}, // exactly 55 %
		{46, 54, 100, 10 * time.Second},
		{20, 30, 50, 0}, // 50 are not large
		{20, 31, 51, 100 * time.Second},
		{0, 100, 100, 10 * time.Second}, // a zone as a whole
	} {
		z := zoneHealth{ready: tc.ready, bad: tc.bad, size: tc.size}
		if got := z.pace(); got != tc.want {
			t.Errorf("%d ready, %d not, of %d: %v, want %v", tc.ready, tc.bad, tc.size, got, tc.want)
		}
	}
}
