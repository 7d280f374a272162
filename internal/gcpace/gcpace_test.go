package gcpace

import "testing"

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {64 << 20, 100}, {128 << 20, 100}, {140 << 20, 90}, {256 << 20, 50}, {300 << 20, 40}, {1 << 30, 30}, {1 << 40, 30}} {
		if got := percent(c.live); got != c.want {
			t.Errorf("GOGC for %d MiB is %d, want %d", c.live>>20, got, c.want)
		}
	}
}
