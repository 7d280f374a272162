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

func TestWasteful(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		live, allocated, held, kept uint64
		want                        bool
	}{
		"small":                                 {live: 50 * mb, held: 100 * mb},
		"quiet after a start":                   {live: 1200 * mb, held: 1600 * mb, want: true},
		"as much could not be given back":       {live: 1200 * mb, held: 1600 * mb, kept: 300 * mb},
		"more than could not be given back":     {live: 1200 * mb, held: 1600 * mb, kept: 200 * mb, want: true},
		"still allocating":                      {live: 1200 * mb, allocated: 30 * mb, held: 1600 * mb},
		"a little goes on in each quiet second": {live: 1200 * mb, allocated: 20 * mb, held: 1600 * mb, want: true},
	} {
		from := look{allocated: 1 << 40}
		if got := wasteful(from, look{c.live, from.allocated + c.allocated, c.held}, c.kept); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
