package controller

import (
	"maps"
	"slices"
	"testing"
	"time"

	kresource "k8s.io/apimachinery/pkg/api/resource"
)

func quantityOf(n int64) *kresource.Quantity { return kresource.NewQuantity(n, kresource.DecimalSI) }

// TestTTLSteps: Kubernetes' steps, which overlap.
func TestTTLSteps(t *testing.T) {
	for _, c := range []struct{ nodes, was, want int }{
		{0, 0, 0}, {100, 0, 0}, {101, 0, 15}, {90, 1, 15}, {89, 1, 0}, {500, 1, 15}, {501, 1, 30}, {5000, 0, 300}, {1800, 4, 300}, {1799, 4, 60}, {3, 4, 0},
	} {
		if got := ttlSteps[ttlStep(c.nodes, c.was)].seconds; got != c.want {
			t.Errorf("%d nodes, from step %d: %d s, want %d", c.nodes, c.was, got, c.want)
		}
	}
}

// TestFailuresAreForgotten: a DaemonSet's memory of failed pods does not grow with nodes that are gone and failures of long ago.
func TestFailuresAreForgotten(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := daemonFailures{Nodes: map[string]daemonFailure{"here": {Wait: time.Second, At: now.Add(-29 * time.Minute)}, "old": {At: now.Add(-31 * time.Minute)}, "gone": {At: now}}}
	f.prune([]daemonNode{{name: "here"}, {name: "old"}}, now)
	if got := slices.Collect(maps.Keys(f.Nodes)); !slices.Equal(got, []string{"here"}) {
		t.Errorf("kept %v", got)
	}
}
