package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// TestNewReasonIsTold: a pod that waits, and is refused for another reason when somebody made room, says so within seconds; of a herd only as many as are
// bounded, and none because more or fewer nodes say the same.
func TestNewReasonIsTold(t *testing.T) {
	const herd = 50
	w := newWorld(t)
	w.node("n1", "2", "8Gi", nil)
	apply := func(doc string) {
		t.Helper()
		if err := w.apply(doc); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	bare := "{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: default, labels: {app: a}}, spec: {%s containers: [{name: c, image: i, resources: {requests: {cpu: %s}}}]}}"
	apply(fmt.Sprintf(bare, "first", "", "10m"))
	apply(fmt.Sprintf(bare, "big", "", "1900m"))
	alone := "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: a}}}]}},"
	for i := range herd {
		apply(fmt.Sprintf(bare, fmt.Sprintf("waits%02d", i), alone, "1"))
	}
	says := func() map[string]int {
		out := map[string]int{}
		for p := range w.state.Unbound() {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodScheduled {
					out[c.Message]++
				}
			}
		}
		return out
	}
	lacking, apart := 0, 0
	count := func() {
		lacking, apart = 0, 0
		for text, n := range says() {
			if strings.Contains(text, "Insufficient cpu") {
				lacking += n
			}
			if strings.Contains(text, "anti-affinity rules") {
				apart += n
			}
		}
	}
	if count(); lacking != herd || apart != 0 {
		t.Fatalf("at first %v", says())
	}
	w.state.Delete(object.Key{Resource: "pods", Namespace: "default", Name: "big"})
	w.settle()
	if count(); lacking != herd {
		t.Errorf("the step that finds other reasons writes them: %v", says())
	}
	w.pass(6 * time.Second)
	if count(); apart < 20 || apart > 25 { // some have their turn
		t.Errorf("then %v, want 20 told of the anti-affinity", says())
	}
	w.pass(11 * time.Second)
	if count(); apart != herd || lacking != 0 {
		t.Errorf("after ten seconds more %v, want %d told of the anti-affinity", says(), herd)
	}
	w.node("n2", "2", "8Gi", nil) // takes one, and refuses the others as the first node does
	w.settle()
	w.pass(11 * time.Second)
	two := 0
	for text, n := range says() {
		if strings.HasPrefix(text, "0/2 nodes") {
			two += n
		}
	}
	if two > 10 {
		t.Errorf("%d pods are told that one more node says the same: %v", two, says())
	}
}
