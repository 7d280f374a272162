package controller

import (
	"cmp"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

// WantedMetrics is what autoscalers go by beyond what containers use: which metrics of which running pods that let themselves be asked, by node. Which
// pods have an External metric nobody says: those are what any pod of the namespace may have.
func WantedMetrics(v View) map[string][]object.PodQuery {
	w := &wanted{v: v, pods: map[object.Key]*queriedPod{}, external: map[string][]object.MetricQuery{}}
	for o := range v.List("horizontalpodautoscalers", "") {
		w.add(o.(*autoscalingv2.HorizontalPodAutoscaler))
	}
	for namespace, queries := range w.external {
		for o := range v.Indexed(object.Measurable(namespace)) {
			w.pod(o.(*corev1.Pod)).perhaps = queries
		}
	}
	out := map[string][]object.PodQuery{}
	for key, p := range w.pods {
		out[p.node] = append(out[p.node], object.PodQuery{Namespace: key.Namespace, Name: key.Name, Queries: p.queries, Perhaps: p.perhaps})
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b object.PodQuery) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
	}
	return out
}

// wanted collects them.
type wanted struct {
	v        View
	pods     map[object.Key]*queriedPod
	external map[string][]object.MetricQuery // by namespace
}

// queriedPod is what one pod is asked for.
type queriedPod struct {
	node             string
	queries, perhaps []object.MetricQuery
}

func (w *wanted) pod(p *corev1.Pod) *queriedPod {
	key := object.KeyOf(p)
	if w.pods[key] == nil {
		w.pods[key] = &queriedPod{node: p.Spec.NodeName}
	}
	return w.pods[key]
}

func (w *wanted) add(h *autoscalingv2.HorizontalPodAutoscaler) {
	for i := range h.Spec.Metrics {
		var id *autoscalingv2.MetricIdentifier
		var pods []*corev1.Pod
		switch m := &h.Spec.Metrics[i]; m.Type {
		case autoscalingv2.PodsMetricSourceType:
			s := scaling{v: w.v, hpa: h}
			text, err := s.scaleTarget()
			sel, perr := labels.Parse(text)
			if err != nil || perr != nil || text == "" {
				continue
			}
			id, pods = &m.Pods.Metric, podsSelected(w.v, h.Namespace, sel)
		case autoscalingv2.ObjectMetricSourceType:
			id = &m.Object.Metric
			pods, _ = PodsFor(w.v, h.Namespace, &m.Object.DescribedObject)
		case autoscalingv2.ExternalMetricSourceType:
			if q, err := query(&m.External.Metric); err == nil && !slices.Contains(w.external[h.Namespace], q) {
				w.external[h.Namespace] = append(w.external[h.Namespace], q)
			}
			continue
		default:
			continue
		}
		q, err := query(id)
		if err != nil {
			continue
		}
		for _, p := range pods {
			if !object.MayBeAsked(p) {
				continue
			}
			if x := w.pod(p); !slices.Contains(x.queries, q) {
				x.queries = append(x.queries, q)
			}
		}
	}
}
