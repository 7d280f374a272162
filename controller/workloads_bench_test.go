package controller_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/object"
)

const daemonManifest = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: c, image: v1}]}
`

// BenchmarkDaemonSet is what a DaemonSet costs when it is made, its pods placed, and when one of its pods becomes ready.
func BenchmarkDaemonSet(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000} {
		w := newWorld(b)
		for i := range nodes {
			w.node(fmt.Sprintf("n%04d", i), "4", "8Gi", nil)
		}
		w.settle()
		if err := w.apply(daemonManifest); err != nil {
			b.Fatal(err)
		}
		changes := w.state.TakeChanges()
		b.Run(fmt.Sprintf("made/nodes=%d", nodes), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := w.state.Clone()
				b.StartTimer()
				if out := controller.Settle(w.set, s, w.set.Triggers(s, changes), w.now, 1<<20, admission.Complete); len(out.Placements) != nodes {
					b.Fatalf("%d pods were placed", len(out.Placements))
				}
			}
		})
		controller.Settle(w.set, w.state, w.set.Triggers(w.state, changes), w.now, 1<<20, admission.Complete)
		w.state.TakeChanges()
		oneReady(b, w, fmt.Sprintf("ready/nodes=%d", nodes), "agent")
	}
}

// BenchmarkJob is what one pod's success costs a Job with many pods.
func BenchmarkJob(b *testing.B) {
	for _, pods := range []int{100, 1000, 5000} {
		w := newWorld(b)
		w.node("n", "400", "400Gi", func(n *corev1.Node) { n.Status.Allocatable["pods"] = *quantity(int64(pods)) })
		if err := w.apply(fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec:
  completions: %[1]d
  parallelism: %[1]d
  completionMode: Indexed
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: v1}]}}
`, pods)); err != nil {
			b.Fatal(err)
		}
		w.settle()
		oneReady(b, w, fmt.Sprintf("ready/pods=%d", pods), "j")
	}
}

// oneReady measures the Settle after one of an owner's pods became ready.
func oneReady(b *testing.B, w *world, name, owner string) {
	b.Run(name, func(b *testing.B) {
		var first *corev1.Pod
		for o := range w.state.List("pods", "") {
			if p := o.(*corev1.Pod); p.OwnerReferences[0].Name == owner {
				first = p
				break
			}
		}
		for b.Loop() {
			b.StopTimer()
			s := w.state.Clone()
			next := object.Copy(first)
			next.Status.Phase = corev1.PodRunning
			next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
			s.Put(next)
			changes := s.TakeChanges()
			b.StartTimer()
			if out := controller.Settle(w.set, s, w.set.Triggers(s, changes), w.now, 1<<20, admission.Complete); out.Ops == 0 {
				b.Fatal("nobody took notice")
			}
		}
	})
}
