package controller_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestEveryRefusedPodIsTold has more pods than fit: each has an event that says why, from the scheduler that it asked for, up to a number from which on
// their owner tells of the rest.
func TestEveryRefusedPodIsTold(t *testing.T) {
	for _, size := range []struct{ replicas, pods, rest int }{{13, 12, 0}, {600, 500, 99}} {
		t.Run(fmt.Sprint(size.replicas), func(t *testing.T) {
			w := newWorld(t)
			w.node("n1", "1", "8Gi", nil)
			for _, doc := range []string{
				"{apiVersion: v1, kind: ConfigMap, metadata: {name: scheduler-profiles, namespace: kube-system}, data: {packed: 'scoringStrategy: MostAllocated'}}",
				fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: %d, selector: {matchLabels: {a: b}},
					template: {metadata: {labels: {a: b}}, spec: {schedulerName: packed, containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}}}}`, size.replicas),
			} {
				if err := w.apply(strings.ReplaceAll(doc, "\t", " ")); err != nil {
					t.Fatal(err)
				}
			}
			w.settle()
			pods, rest := 0, ""
			for o := range w.state.List("events", "") {
				e := o.(*corev1.Event)
				switch {
				case e.Reason == "InvalidProfile":
					t.Fatal(e.Message)
				case e.Reason != "FailedScheduling" && e.Reason != "Scheduled":
				case e.InvolvedObject.Kind == "Pod":
					if e.Source.Component != "packed" {
						t.Fatalf("%s comes from %s, want packed", e.Reason, e.Source.Component)
					}
					if e.Reason == "FailedScheduling" {
						pods++
					}
				default:
					rest += e.InvolvedObject.Kind + " " + e.Message
				}
			}
			want := ""
			if size.rest > 0 {
				want = fmt.Sprintf("Deployment (combined from similar events): %d more pods fit on no node; their conditions say why", size.rest)
			}
			if pods != size.pods || rest != want {
				t.Errorf("%d pods have an event of their refusal, and the rest is told by %q; want %d and %q", pods, rest, size.pods, want)
			}
		})
	}
}
