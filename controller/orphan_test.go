package controller_test

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestJobTakesItsPodBack takes a Job's pod its owner away, and then its labels: the Job adopts it, and lets it go.
func TestJobTakesItsPodBack(t *testing.T) {
	w := withOne(t, `apiVersion: batch/v1
kind: Job
metadata: {name: j, namespace: default}
spec: {parallelism: 2, completions: 4, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}
`)
	pods := func() (keys []object.Key) {
		for o := range w.state.List("pods", "default") {
			keys = append(keys, object.KeyOf(o))
		}
		return keys
	}
	if len(pods()) != 2 {
		t.Fatalf("pods %v, want two", pods())
	}
	key := pods()[0]
	change := func(f func(object.Object)) object.Object {
		live, _ := w.state.Get(key)
		c := object.Copy(live)
		f(c)
		if err := w.put(c); err != nil {
			t.Fatal(err)
		}
		w.settle()
		after, _ := w.state.Get(key)
		return after
	}
	got := change(func(o object.Object) { o.SetOwnerReferences(nil) })
	if ref := metav1.GetControllerOf(got); ref == nil || ref.Name != "j" || len(got.GetFinalizers()) != 1 || got.GetFinalizers()[0] != batchv1.JobTrackingFinalizer || len(pods()) != 2 {
		t.Errorf("without its owner: owner %v, finalizers %v, %d pods; want the Job again, its finalizer, and no other pod", ref, got.GetFinalizers(), len(pods()))
	}
	got = change(func(o object.Object) { o.SetLabels(nil) })
	if ref := metav1.GetControllerOf(got); ref != nil || len(got.GetFinalizers()) != 0 || len(pods()) != 3 {
		t.Errorf("without its labels: owner %v, finalizers %v, %d pods; want neither, and one more pod", ref, got.GetFinalizers(), len(pods()))
	}
}
