package controllers

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// ours is our controllers on a state in memory.
type ours struct {
	t     *testing.T
	set   *controller.Set
	state *memview.State
	wakes map[controller.Trigger]time.Time
	names int
	use   *measurements // what pods use, nil if nothing measures
	// lie puts a mistake into what our controllers write, nil for none.
	lie func(o, old object.Object)
}

// admit is the admission of what our controllers write.
func (w *ours) admit(o, old object.Object, now time.Time) error {
	if w.lie != nil {
		w.lie(o, old)
	}
	return admission.Complete(o, old, now)
}

func newOurs(t *testing.T) *ours {
	set, err := controller.NewSet(controller.Config{ClusterID: "judge", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.244.0.0/16"), AdmitPod: admission.AdmitPod[controller.View], AdmitClaim: admission.AdmitClaim[controller.View]})
	if err != nil {
		t.Fatal(err)
	}
	w := &ours{t: t, set: set, state: memview.New(), wakes: map[controller.Trigger]time.Time{}}
	w.run(time.Now(), set.Resync(w.state))
	return w
}

// host adds a node for what the test's kubelet runs: pods of a node that is not there are removed. It has no room, so that our scheduler places
// nothing, and comes from the future, so that nobody waits to hear of it.
func (w *ours) host(name string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Now().AddDate(100, 0, 0))}}
	n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	w.state.Put(n)
}

// overlay tells Settle what it takes away from the state that it began with.
type overlay struct {
	*memview.State
	removed map[object.Key]bool
}

func (o *overlay) Removed(k object.Key) bool { return o.removed[k] }
func (o *overlay) Put(x object.Object) {
	o.removed[object.KeyOf(x)] = false
	o.State.Put(x)
}
func (o *overlay) Delete(k object.Key) {
	o.removed[k] = true
	o.State.Delete(k)
}

func (w *ours) run(now time.Time, more []controller.Trigger) {
	changes := w.state.TakeChanges()
	o := &overlay{State: w.state, removed: map[object.Key]bool{}}
	for _, ch := range changes {
		o.removed[ch.Key] = ch.New == nil
	}
	triggers := append(w.set.Triggers(w.state, changes), more...)
	var over controller.Overlay = o
	if w.use != nil {
		over = &measuredOverlay{o, w.use}
	}
	out := controller.Settle(w.set, over, triggers, now, 1<<20, w.admit)
	w.state.TakeChanges()
	for _, q := range append(out.Quarantined, out.Errors...) {
		w.t.Fatalf("%s %s: %s", q.Trigger.Controller, q.Trigger.Key, q.Reason)
	}
	for _, wake := range out.Wakes {
		if wake.Trigger.Controller == "scheduler" {
			continue // no node has room here, and each pod that waits has a turn of its own: days would be thousands of looks
		}
		if at, ok := w.wakes[wake.Trigger]; !ok || wake.At.Before(at) {
			w.wakes[wake.Trigger] = wake.At
		}
	}
}

// settle runs what is due until now, each at its time.
func (w *ours) settle(now time.Time) {
	w.run(now, nil)
	for {
		var next time.Time
		for _, at := range w.wakes {
			if !at.After(now) && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
		if next.IsZero() {
			return
		}
		var due []controller.Trigger
		for t, at := range w.wakes {
			if !at.After(next) {
				due = append(due, t)
				delete(w.wakes, t)
			}
		}
		slices.SortFunc(due, func(a, b controller.Trigger) int {
			if a.Controller != b.Controller {
				if a.Controller < b.Controller {
					return -1
				}
				return 1
			}
			return a.Key.Compare(b.Key)
		})
		w.run(next, due)
	}
}

func (w *ours) list(resource string) (out []object.Object) {
	for _, ns := range namespaces(resource) {
		out = slices.AppendSeq(out, w.state.List(resource, ns))
	}
	return out
}

func (w *ours) make(o object.Object) {
	o.SetNamespace(home(o))
	w.names++
	admission.PrepareCreate(o, controller.HashUID("judge", object.KeyOf(o).Path(), string(rune('a'+w.names%26)), time.Now().String()), time.Now())
	admission.Default(o)
	w.state.Put(o)
}

func (w *ours) change(o object.Object, sub string) {
	old, ok := w.state.Get(object.KeyOf(o))
	if !ok {
		w.t.Fatalf("%s is not there", object.KeyOf(o))
	}
	if sub == "status" {
		admission.PrepareStatusUpdate(o, old, time.Now())
	} else {
		admission.PrepareUpdate(o, old)
	}
	if controller.Finished(o) {
		w.state.Delete(object.KeyOf(o))
		return
	}
	w.state.Put(o)
}

func (w *ours) delete(o object.Object, opts controller.DeleteOptions) {
	switch next, gone := controller.BeginDelete(o, opts, time.Now()); {
	case gone:
		w.state.Delete(object.KeyOf(o))
	case next != nil:
		w.state.Put(next)
	}
}
