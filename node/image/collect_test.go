package image_test

import (
	"slices"
	"testing"
	"time"

	"reconcile/node/image"
)

// TestNextToCollect: which image goes, and when none does.
func TestNextToCollect(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	policy := image.Policy{High: 85, Low: 80, MinAge: 2 * time.Minute}
	old := image.Record{ID: "old", Seen: ago(time.Hour), Used: ago(30 * time.Minute)}
	older := image.Record{ID: "older", Seen: ago(time.Hour), Used: ago(40 * time.Minute)}
	never := image.Record{ID: "never", Seen: ago(10 * time.Minute)}
	before := image.Record{ID: "before", Seen: ago(20 * time.Minute)}
	young := image.Record{ID: "young", Seen: ago(2*time.Minute - time.Second)}
	inUse := image.Record{ID: "in use", Seen: ago(time.Hour), InUse: true}
	for name, tc := range map[string]struct {
		have  []image.Record
		used  int
		begun bool
		want  string
	}{
		"space enough":            {[]image.Record{old, never}, 84, false, ""},
		"at the high mark":        {[]image.Record{old}, 85, false, "old"},
		"on the way down":         {[]image.Record{old}, 81, true, "old"},
		"at the low mark":         {[]image.Record{old}, 80, true, ""},
		"used longest ago":        {[]image.Record{old, older}, 90, false, "older"},
		"never used goes first":   {[]image.Record{older, never}, 90, false, "never"},
		"of these the one before": {[]image.Record{never, before}, 90, false, "before"},
		"too young":               {[]image.Record{young}, 99, false, ""},
		"in use":                  {[]image.Record{inUse}, 99, true, ""},
		"only what may":           {[]image.Record{inUse, young, old}, 99, true, "old"},
		"none":                    {nil, 99, false, ""},
	} {
		got, ok := policy.Next(tc.have, tc.used, tc.begun, now)
		if got.ID != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got.ID, ok, tc.want)
		}
	}
}

func TestObserve(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	img := func(id, name string) image.Image { return image.Image{ID: id, Name: name} }
	first := image.Observe(nil, []image.Image{img("a", "a:1"), img("a", "a:2"), img("b", "b:1")}, map[string]bool{"a": true}, now)
	later := now.Add(time.Minute)
	next := image.Observe(first, []image.Image{img("a", "a:2"), img("c", "c:1")}, map[string]bool{"c": true}, later)
	want := []image.Record{
		{ID: "a", Names: []string{"a:2"}, Seen: now, Used: now},
		{ID: "c", Names: []string{"c:1"}, Seen: later, Used: later, InUse: true},
	}
	if len(first) != 2 || !slices.Equal(first[0].Names, []string{"a:1", "a:2"}) || !first[0].InUse || first[1].InUse {
		t.Errorf("at first %+v", first)
	}
	if !slices.EqualFunc(next, want, func(a, b image.Record) bool {
		return a.ID == b.ID && slices.Equal(a.Names, b.Names) && a.Seen.Equal(b.Seen) && a.Used.Equal(b.Used) && a.InUse == b.InUse
	}) {
		t.Errorf("then %+v, want %+v", next, want)
	}
}
