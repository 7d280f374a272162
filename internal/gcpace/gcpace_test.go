package gcpace

import "testing"

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live, allocated uint64
		want            int
	}{
		{0, 0, 100}, {64 << 20, 0, 100}, {128 << 20, 0, 100}, {140 << 20, 0, 90}, {256 << 20, 0, 50}, {300 << 20, 0, 40}, {1 << 30, 0, 30}, {1 << 40, 0, 30},
		{20 << 20, 10 << 20, 100}, {20 << 20, 30 << 20, 400}, {50 << 20, 60 << 20, 250}, {140 << 20, 500 << 20, 90}, {1 << 30, 2 << 30, 30},
	} {
		if got := percent(c.live, c.allocated); got != c.want {
			t.Errorf("GOGC for %d MiB, of which %d MiB are new, is %d, want %d", c.live>>20, c.allocated>>20, got, c.want)
		}
	}
}

func TestQuiet(t *testing.T) {
	const mb = 1 << 20
	for allocated, want := range map[uint64]bool{0: true, 20 * mb: true, 30 * mb: false} {
		from := look{allocated: 1 << 40}
		if got := quiet(from, look{live: 1200 * mb, allocated: from.allocated + allocated}); got != want {
			t.Errorf("%d MB allocated where 1200 live is quiet: %v, want %v", allocated/mb, got, want)
		}
	}
}

func TestWasteful(t *testing.T) {
	const mb = 1 << 20
	for name, c := range map[string]struct {
		live, held, kept uint64
		calmFor          int
		want             bool
	}{
		"small":                                    {live: 50 * mb, held: 100 * mb, calmFor: 1},
		"small, for long":                          {live: 50 * mb, held: 100 * mb, calmFor: 10, want: true},
		"smallest, for long":                       {live: 20 * mb, held: 50 * mb, calmFor: 10},
		"quiet after a start":                      {live: 1200 * mb, held: 1600 * mb, calmFor: 1, want: true},
		"as much could not be given back":          {live: 1200 * mb, held: 1600 * mb, kept: 300 * mb, calmFor: 1},
		"more than could not be given back":        {live: 1200 * mb, held: 1600 * mb, kept: 200 * mb, calmFor: 1, want: true},
		"still allocating":                         {live: 1200 * mb, held: 1600 * mb},
		"quiet after lists":                        {live: 220 * mb, held: 340 * mb, calmFor: 9},
		"quiet for long after lists":               {live: 220 * mb, held: 340 * mb, calmFor: 10, want: true},
		"quiet for long, and it was tried":         {live: 220 * mb, held: 340 * mb, kept: 100 * mb, calmFor: 10},
		"large and quiet for long, as after a day": {live: 2400 * mb, held: 2500 * mb, calmFor: 100},
	} {
		if got := wasteful(look{live: c.live, held: c.held}, c.kept, c.calmFor); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
