package usage

import (
	"fmt"
	"io"
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"reconcile/object"
)

// sample is what one container, or a machine, has used at a time.
type sample struct {
	at      time.Time
	started time.Time     // zero if it is not known
	cpu     time.Duration // since the start
	memory  int64
}

// whole tells whether both amounts were measured.
func (s sample) whole() bool { return !s.at.IsZero() && s.cpu >= 0 && s.memory >= 0 }

// unmeasured is a sample before anything of it was read.
var unmeasured = sample{cpu: -1, memory: -1}

// container names one of a node's.
type container struct {
	pod  object.Key
	name string
}

// scraped is what an agent told.
type scraped struct {
	machine    sample
	containers map[container]sample
}

// parse reads an agent's answer.
func parse(r io.Reader) (scraped, error) {
	out := scraped{machine: unmeasured, containers: map[container]sample{}}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return out, fmt.Errorf("read an agent's metrics: %w", err)
	}
	for name, set := range map[string]func(*sample, float64){
		"cpu_usage_seconds_total":  func(s *sample, v float64) { s.cpu = time.Duration(v * float64(time.Second)) },
		"memory_working_set_bytes": func(s *sample, v float64) { s.memory = int64(v) },
		"start_time_seconds":       func(s *sample, v float64) { s.started = time.UnixMilli(int64(v * 1000)) },
	} {
		for _, m := range families["node_"+name].GetMetric() {
			fill(&out.machine, m, set)
		}
		for _, m := range families["container_"+name].GetMetric() {
			l := labels(m)
			c := container{object.Key{Resource: "pods", Namespace: l["namespace"], Name: l["pod"]}, l["container"]}
			s, ok := out.containers[c]
			if !ok {
				s = unmeasured
			}
			fill(&s, m, set)
			out.containers[c] = s
		}
	}
	return out, nil
}

// fill notes a number, unless it is none that an amount can be.
func fill(s *sample, m *dto.Metric, set func(*sample, float64)) {
	v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
	if math.IsNaN(v) || v < 0 || v > 1<<60 {
		return
	}
	set(s, v)
	if at := m.GetTimestampMs(); at != 0 {
		s.at = time.UnixMilli(at)
	}
}

func labels(m *dto.Metric) map[string]string {
	out := map[string]string{}
	for _, l := range m.GetLabel() {
		out[l.GetName()] = l.GetValue()
	}
	return out
}
