package node

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"reconcile/node/scrape"
	"reconcile/object"
)

// PodMetrics implements stream.Backend: it asks pods of this node for metrics of their own, where their annotations say.
func (a *Agent) PodMetrics(ctx context.Context, queries []object.PodQuery) []object.PodSamples {
	out := make([]object.PodSamples, len(queries))
	var asks []scrape.Ask
	var places []int
	for i, q := range queries {
		p := a.podOf(object.Key{Resource: "pods", Namespace: q.Namespace, Name: q.Name})
		if p == nil {
			out[i] = object.PodSamples{Namespace: q.Namespace, Name: q.Name, Fault: "it is not on this node"}
			continue
		}
		asks, places = append(asks, scrape.Ask{Pod: p, Queries: q.Queries}), append(places, i)
	}
	for n, told := range a.scraper.Round(ctx, asks) {
		out[places[n]] = told
	}
	return out
}

// podOf is a pod of this node as last told, nil if there is none of that name.
func (a *Agent) podOf(key object.Key) *corev1.Pod {
	a.mu.Lock()
	w := a.workers[a.keys[key]]
	a.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.wanted()
}
