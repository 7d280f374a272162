package scrape

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// atOnce is how many pods are asked at once.
const atOnce = 16

// Ask is a question to a pod of this node. The pod is not changed.
type Ask struct {
	Pod     *corev1.Pod
	Queries []object.MetricQuery
}

// turns remembers how pods answered when they were asked last, so that those that hang take no time from the others.
type turns struct {
	mu    sync.Mutex
	round int
	seen  map[types.UID]turn
}

// turn is what is known of one pod: that it answered, be it with a fault, or in which round it hung last.
type turn struct {
	answered bool
	hung     int
}

// Round asks each of the pods once, some at a time, and returns when all have answered or ctx ends: whoever asks says by the deadline of ctx how long it
// waits. Each has an answer, at its place. Those that answered last time are asked first, those that hung are asked last, the one that hung longest ago
// before the others. It may be called by several goroutines.
func (s *Scraper) Round(ctx context.Context, asks []Ask) []object.PodSamples {
	order, round := s.turns.order(asks)
	out := make([]object.PodSamples, len(asks))
	g := errgroup.Group{}
	g.SetLimit(atOnce)
	for _, i := range order {
		g.Go(func() error {
			out[i] = s.inTurn(ctx, asks[i], round)
			return nil
		})
	}
	_ = g.Wait()
	return out
}

// inTurn asks one pod, if there is time.
func (s *Scraper) inTurn(ctx context.Context, a Ask, round int) object.PodSamples {
	if ctx.Err() != nil {
		return object.PodSamples{Namespace: a.Pod.Namespace, Name: a.Pod.Name, Fault: "it was not asked: pods that do not answer took the time that there was"}
	}
	told, late := s.pod(ctx, a.Pod, a.Queries)
	s.turns.note(a.Pod.UID, round, late, late && ctx.Err() != nil)
	return told
}

// order is in which pods are asked. Those that nobody asks about any more are forgotten.
func (t *turns) order(asks []Ask) (order []int, round int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	next := make(map[types.UID]turn, len(asks))
	for i, a := range asks {
		order = append(order, i)
		if was, ok := t.seen[a.Pod.UID]; ok {
			next[a.Pod.UID] = was
		}
	}
	t.seen = next
	rank := func(i int) int {
		switch was, ok := next[asks[i].Pod.UID]; {
		case ok && was.answered:
			return -1
		case ok:
			return was.hung
		}
		return 0
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(rank(i), rank(j)) })
	return order, t.round
}

// note says how a pod answered. One whose time was cut short hangs only if it did so before.
func (t *turns) note(pod types.UID, round int, late, short bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, ok := t.seen[pod]
	switch {
	case !late:
		t.seen[pod] = turn{answered: true}
	case !short || ok && !was.answered:
		t.seen[pod] = turn{hung: round}
	default:
		delete(t.seen, pod)
	}
}
