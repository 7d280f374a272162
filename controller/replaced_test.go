package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// TestNoEntryReplacesAnObject: what takes the name of an object that goes comes in the entry after the one that removes it.
func TestNoEntryReplacesAnObject(t *testing.T) {
	w := withOne(t, `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: v1}]}
`)
	key := object.Key{Resource: "pods", Namespace: "default", Name: "db-0"}
	o, ok := w.state.Get(key)
	if !ok {
		t.Fatal("there is no db-0")
	}
	failed := object.Copy(o.(*corev1.Pod))
	failed.Status.Phase = corev1.PodFailed
	w.state.Put(failed)
	w.settleOnce()
	if o, ok := w.state.Get(key); ok {
		t.Fatalf("the Settle that removes %s makes it anew, as %s", failed.UID, o.GetUID())
	}
	if !w.due() {
		t.Fatal("nothing is due: the pod would never come back")
	}
	w.settleOnce()
	if o, ok := w.state.Get(key); !ok || o.GetUID() == failed.UID {
		t.Fatalf("the next Settle makes no other pod: %v", o)
	}
	if errs := w.last.Errors; len(errs) > 0 {
		t.Errorf("holding back is no error: %v", errs)
	}
}
