package controller_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
	"reconcile/scheduler"
)

// digest is a hash of all objects of a state.
func digest(t testing.TB, s *memview.State) string {
	h := sha256.New()
	for _, k := range object.Kinds() {
		for o := range s.List(k.Resource, "") {
			b, err := object.EncodeJSON(o)
			if err != nil {
				t.Fatal(err)
			}
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// check holds a state to what must always be true.
func check(t testing.TB, s *memview.State) {
	for o := range s.List("nodes", "") {
		n := o.(*corev1.Node)
		cpu, memory, pods := int64(0), int64(0), int64(0)
		for p := range s.PodsOn(n.Name) {
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			pods++
			for _, c := range p.Spec.Containers {
				cpu += c.Resources.Requests.Cpu().MilliValue()
				memory += c.Resources.Requests.Memory().Value()
			}
		}
		if cpu > n.Status.Allocatable.Cpu().MilliValue() || memory > n.Status.Allocatable.Memory().Value() || pods > n.Status.Allocatable.Pods().Value() {
			t.Fatalf("node %s is over-committed: %dm cpu, %d bytes, %d pods of %v", n.Name, cpu, memory, pods, n.Status.Allocatable)
		}
	}
	uids := map[string]object.Key{}
	for o := range s.List("pods", "") {
		if k, dup := uids[string(o.GetUID())]; dup {
			t.Fatalf("%s and %s have the UID %s", k, object.KeyOf(o), o.GetUID())
		}
		uids[string(o.GetUID())] = object.KeyOf(o)
		if o.GetUID() == "" || o.GetCreationTimestamp().Time.IsZero() {
			t.Fatalf("%s has no UID or no creation time", object.KeyOf(o))
		}
	}
}

// step is one random event of a history; it is drawn once and can be played on several worlds.
type step func(w *world)

func drawStep(t *rapid.T) step {
	app := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "app")
	n := rapid.IntRange(0, 12).Draw(t, "n")
	image := rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(t, "image")
	node := rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node")
	more := rapid.SampledFrom([]string{"", "strategy: {type: Recreate}", "paused: true", "revisionHistoryLimit: 1", "minReadySeconds: 5",
		"strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 50%}}", "strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 0}}"}).Draw(t, "more")
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0, 1, 2:
		return func(w *world) {
			if err := w.apply(deployment(app, n, image, more)); err != nil {
				w.t.Fatal(err)
			}
		}
	case 3:
		return func(w *world) { w.kubelet(n) }
	case 4:
		return func(w *world) { w.kubelet(100, node) }
	case 5:
		policy := rapid.SampledFrom([]string{"", "Foreground", "Orphan"}).Draw(t, "policy")
		return func(w *world) {
			key := object.Key{Resource: "deployments", Namespace: "default", Name: app}
			if _, ok := w.state.Get(key); ok {
				if err := w.delete(key, controller.DeleteOptions{PropagationPolicy: policy}); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	case 6:
		return func(w *world) {
			if _, ok := w.state.Get(object.Key{Resource: "nodes", Name: node}); !ok {
				w.node(node, "1", "1Gi", nil)
			} else if n > 9 {
				w.state.Delete(object.Key{Resource: "nodes", Name: node})
			} else {
				w.heartbeat(node)
			}
		}
	case 7:
		return func(w *world) {
			err := w.apply(fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: %s}, ports: [{port: 80}]}\n", app, app))
			if err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return func(w *world) { w.now = w.now.Add(time.Duration(n*n) * time.Second) }
}

// TestSettleProperties plays random histories on two worlds: Settle ends, quarantines and fails nothing, over-commits no node,
// gives no UID twice, and the same history gives the same state to the byte. A second Settle without changes does nothing.
func TestSettleProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 25).Draw(rt, "steps")
		a, b := newWorld(t), newWorld(t)
		for _, s := range steps {
			for _, w := range []*world{a, b} {
				s(w)
				out := w.settle()
				if len(out.Quarantined)+len(out.Errors)+len(out.Leftover) > 0 {
					rt.Fatalf("Settle held back %v, failed %v, left %v", out.Quarantined, out.Errors, out.Leftover)
				}
				check(t, w.state)
			}
			if digest(t, a.state) != digest(t, b.state) {
				rt.Fatal("the same history gave two states")
			}
		}
		var turns []controller.Trigger // of waiting pods: a resync tells those again that have theirs just now
		for i := range 300 {
			turns = append(turns, controller.Trigger{Controller: "scheduler", Key: object.Key{Resource: "pods", Name: fmt.Sprintf("retry-%d", i)}})
		}
		a.settle(turns...)
		if out := a.settle(a.set.Resync(a.state)...); out.Ops != 0 {
			rt.Fatalf("a settled state was changed by a resync: %d writes, %v", out.Ops, a.state.TakeChanges())
		}
	})
}

// TestReasonsForgetNodes takes the only node away: within five minutes a waiting pod's reason no longer speaks of it, without a resync.
func TestReasonsForgetNodes(t *testing.T) {
	w := newWorld(t)
	w.node("n1", "10m", "1Gi", nil) // too small for any
	if err := w.apply(deployment("web", 3, "v1", "")); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.state.Delete(object.Key{Resource: "nodes", Name: "n1"})
	w.pass(5 * time.Minute)
	waiting := 0
	for p := range w.state.Unbound() {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled {
				waiting++
				if c.Message != "no nodes available to schedule pods" {
					t.Fatalf("%s waits because %q", p.Name, c.Message)
				}
			}
		}
	}
	if waiting == 0 {
		t.Error("no pod waits")
	}
}

// TestBudget cuts a large Settle into many small ones and sees that they come to the same pods on the same nodes.
func TestBudget(t *testing.T) {
	whole, parts := newWorld(t), newWorld(t)
	parts.budget = 3
	for _, w := range []*world{whole, parts} {
		w.node("n1", "4", "8Gi", nil)
		w.node("n2", "4", "8Gi", nil)
		if err := w.apply(deployment("web", 20, "v1", "")); err != nil {
			t.Fatal(err)
		}
		out := w.settle()
		for rounds := 0; len(w.left) > 0; rounds++ {
			if rounds > 1000 {
				t.Fatal("the leftovers never end")
			}
			w.settle()
		}
		if w == parts && len(out.Leftover) == 0 {
			t.Error("a budget of 3 writes left nothing over")
		}
	}
	if a, b := whole.show("names"), parts.show("names"); a != b {
		t.Errorf("a small budget made other pods:\n%s\n%s", a, b)
	}
	if a, b := whole.show("pods"), parts.show("pods"); a != b {
		t.Errorf("a small budget placed otherwise:\n%s\n%s", a, b)
	}
}

// TestPodsAreBoundInTheirEntry: pods that are made where the budget ends are bound there too, and not written again by the next entry.
func TestPodsAreBoundInTheirEntry(t *testing.T) {
	w := newWorld(t)
	w.budget = 3
	w.node("n1", "4", "8Gi", nil)
	for _, name := range []string{"a", "b"} {
		if err := w.apply(deployment(name, 5, "v1", "")); err != nil {
			t.Fatal(err)
		}
	}
	made := 0
	for rounds := 0; rounds < 100 && (rounds == 0 || len(w.left) > 0); rounds++ {
		w.settle()
		for o := range w.state.List("pods", "default") {
			if p := o.(*corev1.Pod); p.Spec.NodeName == "" {
				t.Fatalf("round %d leaves %s without a node", rounds, p.Name)
			}
			made++
		}
	}
	if made == 0 {
		t.Error("no pod was made")
	}
}

// broken is a controller that panics for one ConfigMap, never settles for another and fails for a third.
type broken struct{}

func (broken) Name() string      { return "broken" }
func (broken) Watches() []string { return []string{"configmaps"} }
func (broken) Keys(_ controller.View, ch controller.Change, emit func(object.Key)) {
	if ch.New != nil {
		emit(ch.Key)
	}
}

func (broken) Reconcile(v controller.View, key object.Key, _ time.Time) (controller.Result, error) {
	o, _ := v.Get(key)
	cm := object.Copy(o).(*corev1.ConfigMap)
	switch key.Name {
	case "panics":
		panic("boom")
	case "fails":
		return controller.Result{Put: []object.Object{cm}}, errors.New("no luck")
	case "flaps":
		cm.Data = map[string]string{"n": cm.Data["n"] + "x"}
	case "good":
		cm.Data = map[string]string{"seen": "yes"}
	}
	return controller.Result{Put: []object.Object{cm}}, nil
}

func TestQuarantine(t *testing.T) {
	set := controller.SetOf(broken{})
	s := memview.New(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	var changes []controller.Change
	for _, n := range []string{"panics", "fails", "flaps", "good"} {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: n, Namespace: "default"}}
		s.Put(cm)
		changes = append(changes, controller.Change{Key: object.KeyOf(cm), New: cm})
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	out := controller.Settle(set, s, set.Triggers(s, changes), now, 10000, admission.Complete)
	var held, failed []string
	for _, q := range out.Quarantined {
		held = append(held, q.Trigger.Key.Name+": "+strings.SplitN(q.Reason, "\n", 2)[0])
	}
	for _, q := range out.Errors {
		failed = append(failed, q.Trigger.Key.Name+": "+q.Reason)
	}
	sort.Strings(held)
	if want := []string{"flaps: it never settles: 64 runs in a row changed something", "panics: controller panicked: a panic with a string"}; !slices.Equal(held, want) {
		t.Errorf("quarantined %q, want %q", held, want)
	}
	if want := []string{"fails: no luck"}; !slices.Equal(failed, want) {
		t.Errorf("failed %q, want %q", failed, want)
	}
	good, _ := s.Get(object.Key{Resource: "configmaps", Namespace: "default", Name: "good"})
	if good.(*corev1.ConfigMap).Data["seen"] != "yes" {
		t.Error("the key beside the broken ones was not worked on")
	}
	if len(out.Wakes) != 3 {
		t.Errorf("want a wake for each of the three held keys, got %v", out.Wakes)
	}
	for _, w := range out.Wakes {
		if !w.At.After(now) {
			t.Errorf("the wake of %v is not in the future", w.Trigger)
		}
	}
	events := 0
	for range s.List("events", "") {
		events++
	}
	if events != 2 {
		t.Errorf("want an event for each quarantined object, got %d", events)
	}
}

func TestPodNamesRepeat(t *testing.T) {
	// The same Deployment in two clusters of the same history has the same pods: that is what lets a plan name them.
	a, b := newWorld(t), newWorld(t)
	for _, w := range []*world{a, b} {
		if err := w.apply(deployment("web", 3, "v1", "")); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	if a.show("names") != b.show("names") || a.show("names") == "none\n" {
		t.Errorf("names differ:\n%s\n%s", a.show("names"), b.show("names"))
	}
}

// BenchmarkSettle is a Deployment of 1,000 replicas, applied to an idle cluster: ReplicaSet, pods, bindings, events, status.
func BenchmarkSettle(b *testing.B) {
	for _, nodes := range []int{3, 10, 50} {
		b.Run(fmt.Sprintf("pods=1000/nodes=%d", nodes), func(b *testing.B) {
			w := newWorld(b)
			for i := range nodes {
				w.node(fmt.Sprintf("n%02d", i), "400", "400Gi", func(n *corev1.Node) { n.Status.Allocatable["pods"] = *quantity(1000) })
			}
			w.settle()
			if err := w.apply(deployment("web", 1000, "v1", "")); err != nil {
				b.Fatal(err)
			}
			changes := w.state.TakeChanges()
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := w.state.Clone()
				b.StartTimer()
				out := controller.Settle(w.set, s, w.set.Triggers(s, changes), w.now, 1<<20, admission.Complete)
				if len(out.Placements) != 1000 {
					b.Fatalf("%d pods were placed", len(out.Placements))
				}
			}
		})
	}
}

// BenchmarkSchedule is the scheduler alone.
func BenchmarkSchedule(b *testing.B) {
	for _, nodes := range []int{3, 50, 1000} {
		b.Run(fmt.Sprintf("pods=1000/nodes=%d", nodes), func(b *testing.B) {
			w := newWorld(b)
			for i := range nodes {
				w.node(fmt.Sprintf("n%02d", i), "400", "400Gi", func(n *corev1.Node) { n.Status.Allocatable["pods"] = *quantity(1000) })
			}
			if err := w.apply(deployment("web", 1000, "v1", "")); err != nil {
				b.Fatal(err)
			}
			w.settle()
			var pods []*corev1.Pod
			for o := range w.state.List("pods", "") {
				p := *o.(*corev1.Pod)
				p.Spec.NodeName = ""
				pods = append(pods, &p)
				w.state.Delete(object.KeyOf(o))
			}
			b.ReportAllocs()
			for b.Loop() {
				scheduler.NewSnapshot(w.state).Schedule(pods)
			}
		})
	}
}

func quantity(n int64) *kresource.Quantity { return kresource.NewQuantity(n, kresource.DecimalSI) }
