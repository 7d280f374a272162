package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestTrim: what a call holds of the classes of its pods is bounded, those that fit and those that do not, and what is dropped changes no decision.
func TestTrim(t *testing.T) {
	var pods []*corev1.Pod
	for round := range 3 {
		for i := range 60 {
			p := pod(fmt.Sprint("a", i%5), round*100+i, fmt.Sprintf("%dm", 100+i), "")
			if i%2 == 0 {
				p.Spec.Containers[0].Resources.Requests["memory"] = *node("", "1", "100Gi", 1).Status.Allocatable.Memory()
			}
			pods = append(pods, p)
		}
	}
	wide, narrow := NewSnapshot(zonal(200)), NewSnapshot(zonal(200))
	narrow.most = 20 * (200 + classWeight)
	most := 0
	for _, p := range pods {
		want, got := wide.Schedule([]*corev1.Pod{p})[0], narrow.Schedule([]*corev1.Pod{p})[0]
		if decisionText(got) != decisionText(want) {
			t.Fatalf("with classes dropped\n%s\nwithout\n%s", decisionText(got), decisionText(want))
		}
		most = max(most, narrow.weight)
		held := 0
		for _, list := range narrow.classes {
			for _, c := range list {
				held += c.rows()
			}
		}
		used := map[*shape]bool{}
		for _, list := range narrow.classes {
			for _, c := range list {
				used[c.shape] = true
			}
		}
		for _, list := range narrow.shapes {
			for _, sh := range list {
				if !used[sh] {
					t.Fatal("a shape is kept that no class has")
				}
			}
		}
		if held > narrow.weight {
			t.Fatalf("classes hold %d rows, and %d were counted", held, narrow.weight)
		}
	}
	// One class and its shape come on top before anything is dropped.
	if limit := narrow.most + 5*200 + classWeight; most > limit || wide.weight < 2*limit {
		t.Errorf("at most %d rows were held, the limit is %d; without a limit %d", most, limit, wide.weight)
	}
}
