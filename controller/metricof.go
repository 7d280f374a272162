package controller

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"reconcile/object"
)

// MetricOf is the sum of a metric over the pods of a namespace that an object stands for, as an autoscaler with an Object metric reckons; false if none of
// them has it. Its time is that of the oldest value, its window the longest.
func MetricOf(v View, m MetricsView, namespace string, ref *autoscalingv2.CrossVersionObjectReference, q object.MetricQuery) (out object.MetricValue, ok bool) {
	pods, _ := PodsFor(v, namespace, ref)
	all := measured{samples: map[string]sample{}}
	for _, p := range pods {
		x, _, has := m.Metric(object.KeyOf(p), q)
		if !has {
			continue
		}
		all.samples[p.Name] = sample{value: x.Milli}
		if out.At.IsZero() || x.At.Before(out.At) {
			out.At = x.At
		}
		out.Window = max(out.Window, x.Window)
	}
	out.Milli = all.sum()
	return out, len(all.samples) > 0
}
