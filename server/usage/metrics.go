package usage

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"reconcile/object"
)

// rateWindow is how far back the rate of a counter looks.
const rateWindow = time.Minute

// asked is one metric of one pod.
type asked struct {
	pod object.Key
	object.MetricQuery
}

// Metrics is what pods told of themselves last. Nobody may change it.
type Metrics struct {
	values map[asked]object.MetricValue
	faults map[object.Key]string
}

// Metric is the last value of a pod's metric; without one, fault may tell why the pod cannot be asked. It implements what controllers ask.
func (m *Metrics) Metric(pod object.Key, q object.MetricQuery) (v object.MetricValue, fault string, ok bool) {
	if m == nil {
		return object.MetricValue{}, "", false
	}
	v, ok = m.values[asked{pod, q}]
	return v, m.faults[pod], ok
}

// Names are those of the metrics that there is a value of, in order.
func (m *Metrics) Names() []string {
	if m == nil {
		return nil
	}
	names := map[string]bool{}
	for a := range m.values {
		names[a.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// told is a value as servers tell it to each other.
type told struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	object.MetricQuery
	object.MetricValue
}

// MarshalJSON implements json.Marshaler. Faults are for the controllers only, and stay here.
func (m *Metrics) MarshalJSON() ([]byte, error) {
	out := []told{}
	if m != nil {
		for a, v := range m.values {
			out = append(out, told{a.pod.Namespace, a.pod.Name, a.MetricQuery, v})
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Metrics) UnmarshalJSON(b []byte) error {
	var in []told
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("read what pods tell of themselves: %w", err)
	}
	*m = Metrics{values: map[asked]object.MetricValue{}}
	for _, t := range in {
		m.values[asked{object.Key{Resource: "pods", Namespace: t.Namespace, Name: t.Pod}, t.MetricQuery}] = t.MetricValue
	}
	return nil
}

// point is what a counter was at a time.
type point struct {
	at    time.Time
	value float64
}

// history is what counters were within rateWindow, by which their rates are measured.
type history map[asked][]point

// rate notes what a counter is now, and tells how fast it grew on average since the oldest point that is kept. One that has become smaller was
// begun again at zero (as Prometheus counts). The first point tells nothing.
func (h history) rate(of asked, now point) (perSecond float64, window time.Duration, ok bool) {
	kept := h[of]
	if n := len(kept); n > 0 && !kept[n-1].at.Before(now.at) {
		kept = nil // the node's clock was set back
	}
	for len(kept) > 0 && kept[0].at.Before(now.at.Add(-rateWindow)) {
		kept = kept[1:]
	}
	kept = append(append([]point{}, kept...), now)
	h[of] = kept
	if len(kept) < 2 {
		return 0, 0, false
	}
	grown := 0.0
	for i := 1; i < len(kept); i++ {
		if d := kept[i].value - kept[i-1].value; d >= 0 {
			grown += d
		} else {
			grown += kept[i].value
		}
	}
	window = now.at.Sub(kept[0].at)
	return grown / window.Seconds(), window, true
}

// add notes what one pod answered.
func (m *Metrics) add(h history, s *object.PodSamples) {
	pod := object.Key{Resource: "pods", Namespace: s.Namespace, Name: s.Name}
	if s.Fault != "" {
		m.faults[pod] = s.Fault
		return
	}
	for _, x := range s.Samples {
		of := asked{pod, x.MetricQuery}
		v := object.MetricValue{At: s.At}
		if x.Counter {
			perSecond, window, ok := h.rate(of, point{s.At, x.Value})
			if !ok {
				continue
			}
			x.Value, v.Window = perSecond, window
		}
		v.Milli = thousandths(x.Value)
		m.values[of] = v
	}
}

// thousandths is a number as quantities count, at most what an int64 holds.
func thousandths(v float64) int64 {
	switch v = math.Round(v * 1000); {
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	case math.IsNaN(v):
		return 0
	}
	return int64(v)
}
