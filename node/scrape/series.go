package scrape

import (
	"fmt"
	"io"
	"math"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

const total = "_total"

// seriesOf are the series that a metric's name may stand for; the first that a pod has counts.
func seriesOf(name string) []string {
	if strings.HasSuffix(name, total) {
		return []string{name}
	}
	return []string{name, name + total, name + "_seconds" + total}
}

// sums reads lines of series and adds up, for each query, those that its selector matches. A query that none matches has no sample.
func sums(r io.Reader, queries []object.MetricQuery) ([]object.Sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, err
	}
	var out []object.Sample
	for _, q := range queries {
		sel, err := labels.Parse(q.Selector)
		if err != nil {
			return nil, fmt.Errorf("the selector of metric %s: %w", q.Name, err)
		}
		for _, name := range seriesOf(q.Name) {
			f := families[name]
			if f == nil {
				continue
			}
			if v, ok := sum(f, sel); ok {
				out = append(out, object.Sample{MetricQuery: q, Counter: strings.HasSuffix(name, total), Value: v})
			}
			break
		}
	}
	return out, nil
}

// sum adds the series up that sel matches; those that are no number count for nothing.
func sum(f *dto.MetricFamily, sel labels.Selector) (float64, bool) {
	all, some := 0.0, false
	for _, m := range f.GetMetric() {
		set := labels.Set{}
		for _, l := range m.GetLabel() {
			set[l.GetName()] = l.GetValue()
		}
		v := m.GetUntyped().GetValue()
		if math.IsNaN(v) || math.IsInf(v, 0) || !sel.Matches(set) {
			continue
		}
		all, some = all+v, true
	}
	return all, some && !math.IsInf(all, 0)
}
