package controller_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/object"
)

// happening is an event that was last seen at a time.
func happening(i int, at time.Time) *corev1.Event {
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("e%05d", i)}, LastTimestamp: metav1.NewTime(at)}
	e.CreationTimestamp = metav1.NewTime(at)
	return e
}

// TestEventsAreForgotten: an event goes within a minute after the hour in which it last happened.
func TestEventsAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.state.Put(happening(1, w.now))
	w.state.Put(happening(2, w.now))
	w.settle()
	there := func(i int) bool {
		_, ok := w.state.Get(object.KeyOf(happening(i, w.now)))
		return ok
	}
	w.now = w.now.Add(30 * time.Minute)
	w.state.Put(happening(2, w.now)) // it happens again
	w.settle()
	w.now = w.now.Add(29 * time.Minute)
	w.settle()
	if !there(1) || !there(2) {
		t.Fatal("an event went before its hour was over")
	}
	w.now = w.now.Add(2 * time.Minute)
	w.settle()
	if there(1) || !there(2) {
		t.Fatalf("after an hour: the first is there: %v, the one that happened again: %v", there(1), there(2))
	}
	w.now = w.now.Add(30 * time.Minute)
	w.settle()
	if there(2) {
		t.Error("an event stays for ever")
	}
}

// BenchmarkSettleEvent is one more event where there are many already.
func BenchmarkSettleEvent(b *testing.B) {
	for _, n := range []int{0, 20000} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			w := newWorld(b)
			for i := range n {
				w.state.Put(happening(i, w.now))
			}
			w.settle()
			w.state.Put(happening(n, w.now))
			changes := w.state.TakeChanges()
			for b.Loop() {
				controller.Settle(w.set, w.state, w.set.Triggers(w.state, changes), w.now, 1<<20, admission.Complete)
			}
		})
	}
}
