package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/object"
)

// field is a Scraper of nodes whose pods say what the test says.
type field struct {
	*Scraper
	wanted  map[string][]object.PodQuery
	answers map[string][]object.PodSamples
}

func newField(t testing.TB) *field {
	f := &field{answers: map[string][]object.PodSamples{}}
	var err error
	f.Scraper, err = NewScraper(ScraperConfig{Wanted: func() map[string][]object.PodQuery { return f.wanted }, Log: slog.New(slog.DiscardHandler),
		Ask: func(_ context.Context, node string, _ time.Duration, _ []object.PodQuery) ([]object.PodSamples, error) {
			if a, ok := f.answers[node]; ok {
				return a, nil
			}
			return nil, errors.New("away")
		}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// show is what is known of a metric of a pod.
func (f *field) show(pod string, q object.MetricQuery) string {
	v, fault, ok := f.Metrics().Metric(object.Key{Resource: "pods", Namespace: "default", Name: pod}, q)
	if !ok {
		return "- " + fault
	}
	return fmt.Sprintf("%dm over %s at %d", v.Milli, v.Window, v.At.Unix())
}

// TestScraper: a gauge is as it was told, a counter its rate over the last minute, also over a restart; who cannot be asked says why.
func TestScraper(t *testing.T) {
	t.Parallel()
	f := newField(t)
	gauge, counter := object.MetricQuery{Name: "jobs", Selector: "queue=a"}, object.MetricQuery{Name: "requests"}
	queries := []object.MetricQuery{gauge, counter}
	f.wanted = map[string][]object.PodQuery{"n1": {{Namespace: "default", Name: "a", Queries: queries}, {Namespace: "default", Name: "b", Queries: queries}}, "n2": {{Namespace: "default", Name: "c", Queries: queries}}}
	tell := func(at int64, jobs, requests float64) {
		f.answers["n1"] = []object.PodSamples{{Namespace: "other", Name: "lie", At: time.Unix(at, 0), Samples: []object.Sample{{MetricQuery: gauge, Value: jobs}, {MetricQuery: counter, Counter: true, Value: requests}}}, {Fault: "refused"}}
		f.round(t.Context())
	}
	for _, c := range []struct {
		at             int64
		jobs, requests float64
		gauge, counter string
	}{
		{1000, 1.5, 100, "1500m over 0s at 1000", "- "},
		{1015, -2, 130, "-2000m over 0s at 1015", "2000m over 15s at 1015"},
		{1030, 1e300, 130, fmt.Sprintf("%dm over 0s at 1030", int64(math.MaxInt64)), "1000m over 30s at 1030"},
		{1045, 0, 15, "0m over 0s at 1045", "1000m over 45s at 1045"}, // it was begun again
		{1060, 0, 45, "0m over 0s at 1060", "1250m over 1m0s at 1060"},
		{1075, 0, 75, "0m over 0s at 1075", "1250m over 1m0s at 1075"}, // the first point counts no more
		{1200, 0, 75, "0m over 0s at 1200", "- "},                      // after a long silence it is as new
		{1100, 0, 75, "0m over 0s at 1100", "- "},                      // a clock that was set back
		{1110, 0, 85, "0m over 0s at 1110", "1000m over 10s at 1110"},
	} {
		tell(c.at, c.jobs, c.requests)
		if g, n := f.show("a", gauge), f.show("a", counter); g != c.gauge || n != c.counter {
			t.Errorf("at %d: %s and %s, want %s and %s", c.at, g, n, c.gauge, c.counter)
		}
	}
	if got := f.show("b", gauge); got != "- refused" {
		t.Errorf("a pod that cannot be asked: %s", got)
	}
	if got := f.show("c", gauge); got != "- its node cannot be asked: away" {
		t.Errorf("a node that cannot be asked: %s", got)
	}
	if got := f.show("lie", gauge); got != "- " {
		t.Errorf("an agent told of a pod that it was not asked about: %s", got)
	}
	// What another server is told is the same.
	b, err := json.Marshal(f.Metrics())
	var other Metrics
	if err == nil {
		err = json.Unmarshal(b, &other)
	}
	if v, _, ok := other.Metric(object.Key{Resource: "pods", Namespace: "default", Name: "a"}, counter); err != nil || !ok || v.Milli != 1000 || v.Window != 10*time.Second || v.At.Unix() != 1110 {
		t.Errorf("told %s: %+v %v %v", b, v, ok, err)
	}
	// One that misses an answer has no value, and its counter is measured over the gap; an agent that answers of too few is not believed.
	f.answers["n1"] = f.answers["n1"][:1]
	f.round(t.Context())
	if got := f.show("a", gauge); got != "- its node cannot be asked: 1 answers to 2 questions" {
		t.Errorf("an agent that answers of too few: %s", got)
	}
	tell(1140, 0, 115)
	if got := f.show("a", counter); got != "1000m over 40s at 1140" {
		t.Errorf("after a gap: %s", got)
	}
	// What nobody wants any more is forgotten, and so is all when this server does not lead.
	f.wanted["n1"][0].Queries = []object.MetricQuery{gauge}
	f.answers["n1"][0].Samples = f.answers["n1"][0].Samples[:1]
	f.round(t.Context())
	if len(f.before) != 0 {
		t.Errorf("what nobody wants is kept: %v", f.before)
	}
	f.wanted = nil
	f.round(t.Context())
	if f.Metrics() != nil {
		t.Error("a server that does not lead knows what pods tell")
	}
}

// TestNotAskedFor: a metric that an agent was not asked for is not there, nor under another selector, nor of a pod that was asked for another one.
func TestNotAskedFor(t *testing.T) {
	t.Parallel()
	f := newField(t)
	jobs, cold := object.MetricQuery{Name: "jobs", Selector: "queue=a"}, object.MetricQuery{Name: "cold"}
	f.wanted = map[string][]object.PodQuery{"n1": {{Namespace: "default", Name: "a", Queries: []object.MetricQuery{jobs}}, {Namespace: "default", Name: "b", Queries: []object.MetricQuery{cold}}}}
	everything := []object.Sample{{MetricQuery: object.MetricQuery{Name: "never"}, Value: 1}, {MetricQuery: object.MetricQuery{Name: "rate"}, Counter: true, Value: 1},
		{MetricQuery: object.MetricQuery{Name: "jobs"}, Value: 2}, {MetricQuery: jobs, Value: 3}, {MetricQuery: cold, Value: 4}}
	for at := range int64(2) { // a counter has a value from the second time on
		f.answers["n1"] = []object.PodSamples{{At: time.Unix(1000+at, 0), Samples: slices.Clone(everything)}, {At: time.Unix(1000+at, 0), Samples: slices.Clone(everything)}}
		f.round(t.Context())
	}
	var got []string
	for of, v := range f.Metrics().values {
		got = append(got, fmt.Sprintf("%s %s %q %dm", of.pod.Name, of.Name, of.Selector, v.Milli))
	}
	slices.Sort(got)
	if want := []string{`a jobs "queue=a" 3000m`, `b cold "" 4000m`}; !slices.Equal(got, want) {
		t.Errorf("believed is %q, want %q", got, want)
	}
	if len(f.before) != 0 {
		t.Errorf("of a counter that was not asked for is kept %v", f.before)
	}
}

// TestFinds: a pod is asked for what some pod of its namespace has until it answers; then for what it has of it, and for the rest once a minute.
func TestFinds(t *testing.T) {
	t.Parallel()
	f := newField(t)
	sure, a, b := object.MetricQuery{Name: "sure"}, object.MetricQuery{Name: "a"}, object.MetricQuery{Name: "b"}
	perhaps := []object.MetricQuery{a, b, sure}
	f.wanted = map[string][]object.PodQuery{"n1": {
		{Namespace: "default", Name: "both", Queries: []object.MetricQuery{sure}, Perhaps: perhaps},
		{Namespace: "default", Name: "none", Perhaps: perhaps},
		{Namespace: "default", Name: "plain", Queries: []object.MetricQuery{sure}}}}
	serves := map[string][]object.MetricQuery{"both": {sure, a}}
	var asked string
	faults := map[string]string{"none": "starts"}
	f.cfg.Ask = func(_ context.Context, _ string, _ time.Duration, queries []object.PodQuery) (out []object.PodSamples, err error) {
		asked = ""
		for _, q := range queries {
			s := object.PodSamples{At: time.Unix(1000, 0), Fault: faults[q.Name]}
			asked += q.Name
			for _, m := range q.Queries {
				asked += " " + m.Name
				if slices.Contains(serves[q.Name], m) {
					s.Samples = append(s.Samples, object.Sample{MetricQuery: m, Value: 1})
				}
			}
			asked += "; "
			out = append(out, s)
		}
		return out, nil
	}
	round := func(want string) {
		t.Helper()
		if f.round(t.Context()); asked != want {
			t.Errorf("asked %q, want %q", asked, want)
		}
	}
	round("both sure a b; none a b sure; plain sure; ")
	// none did not answer, so it is looked at in each round; of both it is known what it has, until its next look.
	for range lookAgain {
		if f.round(t.Context()); !strings.HasSuffix(asked, "none a b sure; plain sure; ") {
			t.Errorf("asked %q while a pod does not answer", asked)
		}
	}
	delete(faults, "none")
	looks := map[string]int{}
	for range 3 * lookAgain {
		f.round(t.Context())
		switch {
		case strings.HasPrefix(asked, "both sure a b; "):
			looks["both"]++
		case !strings.HasPrefix(asked, "both sure a; "):
			t.Errorf("asked %q", asked)
		}
		switch {
		case strings.HasSuffix(asked, "none a b sure; plain sure; "):
			looks["none"]++
		case !strings.HasSuffix(asked, "; plain sure; ") || strings.Contains(asked, "none"):
			t.Errorf("asked %q", asked)
		}
		if got, want := f.show("both", a), "1000m over 0s at 1000"; got != want {
			t.Errorf("both has %s, want %s", got, want)
		}
	}
	if looks["both"] < 2 || looks["both"] > 3 || looks["none"] < 3 || looks["none"] > 4 {
		t.Errorf("%d rounds looked %v", 3*lookAgain, looks)
	}
	// What it begins to serve is found within a minute, and asked for from then on; what it does no more is asked for no more.
	serves["both"], serves["none"] = []object.MetricQuery{sure, b}, []object.MetricQuery{b}
	for range lookAgain {
		f.round(t.Context())
	}
	for f.finds.round+1 == f.finds.pods[object.Key{Resource: "pods", Namespace: "default", Name: "both"}].next || f.finds.round+1 == f.finds.pods[object.Key{Resource: "pods", Namespace: "default", Name: "none"}].next {
		f.round(t.Context())
	}
	round("both sure b; none b; plain sure; ")
	// What no autoscaler goes by any more is asked for no more.
	f.wanted["n1"][0].Perhaps, f.wanted["n1"][1].Perhaps = nil, nil
	round("both sure; plain sure; ")
	if len(f.finds.pods) != 0 {
		t.Errorf("%d pods are remembered", len(f.finds.pods))
	}
}

// TestScraperWaits: an agent that answers when its time is up is heard, one that does not is given up, and neither holds up the other.
func TestScraperWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newField(t)
		q := object.MetricQuery{Name: "jobs"}
		f.wanted = map[string][]object.PodQuery{"slow": {{Namespace: "default", Name: "a", Queries: []object.MetricQuery{q}}}, "dead": {{Namespace: "default", Name: "b", Queries: []object.MetricQuery{q}}}}
		f.cfg.Ask = func(ctx context.Context, node string, within time.Duration, _ []object.PodQuery) ([]object.PodSamples, error) {
			wait := within + time.Second // the way takes time too
			if node == "dead" {
				wait = time.Hour
			}
			select {
			case <-time.After(wait):
				return []object.PodSamples{{At: time.Unix(1000, 0), Samples: []object.Sample{{MetricQuery: q, Value: 1}}}}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		f.round(t.Context())
		if got, want := f.show("a", q), "1000m over 0s at 1000"; got != want {
			t.Errorf("an agent that answers in time: %s, want %s", got, want)
		}
		if got, want := f.show("b", q), "- its node cannot be asked: context deadline exceeded"; got != want {
			t.Errorf("an agent that does not: %s, want %s", got, want)
		}
	})
}

// TestScraperOfManyNodes: the answers of some nodes are noted while others are still asked, also where it is not known which pods have a metric.
func TestScraperOfManyNodes(t *testing.T) {
	t.Parallel()
	f := newField(t)
	q := object.MetricQuery{Name: "a"}
	f.wanted = map[string][]object.PodQuery{}
	for n := range 200 {
		node, pod := fmt.Sprintf("n%d", n), fmt.Sprintf("p%d", n)
		f.wanted[node] = []object.PodQuery{{Namespace: "default", Name: pod, Perhaps: []object.MetricQuery{q}}}
		f.answers[node] = []object.PodSamples{{At: time.Unix(1000, 0), Samples: []object.Sample{{MetricQuery: q, Value: 1}}}}
	}
	for range 20 {
		f.round(t.Context())
	}
	for n := range 200 {
		if got := f.show(fmt.Sprintf("p%d", n), q); got != "1000m over 0s at 1000" {
			t.Errorf("p%d has %s", n, got)
		}
	}
}
