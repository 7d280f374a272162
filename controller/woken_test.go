package controller_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestWhatWakesTheScheduler holds which changes beside those of pods and nodes have waiting pods looked at again, and that they are looked at after
// five minutes though nothing changes.
func TestWhatWakesTheScheduler(t *testing.T) {
	w := newWorld(t)
	if err := w.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: waits}\nspec: {containers: [{name: c, image: v1}]}"); err != nil {
		t.Fatal(err)
	}
	w.settle()
	step := controller.Trigger{Controller: "scheduler", Key: object.Key{Resource: "pods"}}
	if at := w.wakes[step]; !at.Equal(w.now.Add(5 * time.Minute)) {
		t.Errorf("it looks again at %s, want five minutes after %s", at, w.now)
	}
	meta := metav1.ObjectMeta{Name: "x", UID: "1"}
	blue := meta
	blue.Labels = map[string]string{"team": "blue"}
	noted := meta
	noted.Annotations = map[string]string{"a": "b"}
	for _, c := range []struct {
		name     string
		old, new object.Object
		woken    bool
	}{
		{"a namespace comes", nil, &corev1.Namespace{ObjectMeta: blue}, false},
		{"a namespace is labelled", &corev1.Namespace{ObjectMeta: meta}, &corev1.Namespace{ObjectMeta: blue}, true},
		{"a namespace is annotated", &corev1.Namespace{ObjectMeta: meta}, &corev1.Namespace{ObjectMeta: noted}, false},
		{"a namespace goes", &corev1.Namespace{ObjectMeta: blue}, nil, false},
		{"capacity comes", nil, &storagev1.CSIStorageCapacity{ObjectMeta: meta}, true},
		{"capacity goes", &storagev1.CSIStorageCapacity{ObjectMeta: meta}, nil, false},
		{"a driver changes", &storagev1.CSIDriver{ObjectMeta: meta}, &storagev1.CSIDriver{ObjectMeta: meta}, true},
		{"a driver goes", &storagev1.CSIDriver{ObjectMeta: meta}, nil, false},
		{"a volume is attached", nil, &storagev1.VolumeAttachment{ObjectMeta: meta}, false},
		{"a volume is detached", &storagev1.VolumeAttachment{ObjectMeta: meta}, nil, true},
	} {
		key := object.Key{}
		for _, o := range []object.Object{c.old, c.new} {
			if o != nil {
				key = object.KeyOf(o)
			}
		}
		if got := slices.Contains(w.set.Triggers(w.state, []controller.Change{{Key: key, Old: c.old, New: c.new}}), step); got != c.woken {
			t.Errorf("%s: looked at again %v, want %v", c.name, got, c.woken)
		}
	}
}
