package sequencer

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// twice settles everything a second time, on a view that keeps no snapshot, and compares.
type twice struct {
	Controllers
	t    *testing.T
	mu   sync.Mutex
	kept int // how many Settles had a snapshot lent
}

func (w *twice) Settle(o controller.Overlay, triggers []controller.Trigger, now time.Time, budget int, admit controller.Admit) controller.Outcome {
	k, ok := o.(*keptOverlay)
	if !ok {
		return w.Controllers.Settle(o, triggers, now, budget, admit)
	}
	w.mu.Lock()
	w.kept++
	w.mu.Unlock()
	plain := cluster.NewOverlay(k.Base())
	plain.Apply(k.Changes())
	out := w.Controllers.Settle(o, triggers, now, budget, admit)
	w.Controllers.Settle(plain, triggers, now, budget, admit)
	got, want := map[object.Key]object.Object{}, map[object.Key]object.Object{}
	for _, c := range k.Changes() {
		got[c.Key] = c.New
	}
	for _, c := range plain.Changes() {
		want[c.Key] = c.New
	}
	for _, key := range slices.SortedFunc(maps.Keys(want), object.Key.Compare) {
		if !equality.Semantic.DeepEqual(got[key], want[key]) {
			w.t.Errorf("%s: with the snapshot that is kept\n%v\nwith a new one\n%v", key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		w.t.Errorf("%d changes with the snapshot that is kept, %d with a new one", len(got), len(want))
	}
	return out
}

// TestSnapshotIsKept: on a course of writes, forecasts, refusals by the store and new tenures, every decision is the one that is made without
// what was kept.
func TestSnapshotIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, err := controller.NewSet(controller.Config{ClusterID: "kept", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.244.0.0/16")})
		if err != nil {
			t.Fatal(err)
		}
		w := &twice{Controllers: Controllers{set}, t: t}
		storage := raftstore.MemoryStorage()
		r := newRig(t, storage, func(c *Config) { c.Settler = w })
		random := rand.New(rand.NewPCG(1, 2))
		for round := range 60 {
			var wg sync.WaitGroup
			for range 1 + random.IntN(4) {
				op, ok := r.draw(random)
				if !ok {
					continue
				}
				// Refusals are answers too: two may draw the same object.
				wg.Go(func() { _, _ = r.submit(op) })
				if random.IntN(3) == 0 {
					forecast, _ := r.draw(random)
					wg.Go(func() { _, _ = r.seq.Forecast(context.Background(), Request{User: "test", Ops: []Op{forecast}}) })
				}
			}
			wg.Wait()
			if round%30 == 29 {
				r.stop()
				r = newRig(t, storage, func(c *Config) { c.Settler = w })
			}
		}
		r.stop()
		if w.kept < 50 {
			t.Errorf("only %d Settles had a snapshot lent", w.kept)
		}
	})
}

// draw is a random write: a node or a Deployment comes, changes or goes, a pod starts, ends or is deleted.
func (r *rig) draw(random *rand.Rand) (Op, bool) {
	v := cluster.NewView(r.store.View())
	change := func(o object.Object) (Op, bool) {
		if _, ok := v.Get(object.KeyOf(o)); ok {
			return write(Update, o), true
		}
		return write(Create, o), true
	}
	switch kind := random.IntN(10); {
	case kind < 2:
		name, room := fmt.Sprintf("n%d", random.IntN(6)), corev1.ResourceList{corev1.ResourceCPU: resource.MustParse([]string{"1", "2"}[random.IntN(2)]),
			corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("12")}
		if random.IntN(4) == 0 {
			return Op{Verb: Delete, Key: object.Key{Resource: "nodes", Name: name}}, true
		}
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprint(random.IntN(2))}}}
		n.Spec.Unschedulable = random.IntN(5) == 0
		n.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
		return change(n)
	case kind < 5:
		d := deployment(fmt.Sprintf("web%d", random.IntN(4)), int32(random.IntN(9)))
		d.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("example/web:%d", random.IntN(3))
		d.Spec.Template.Spec.PriorityClassName = []string{"", "system-cluster-critical"}[random.IntN(2)]
		d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse([]string{"100m", "300m"}[random.IntN(2)])
		return change(d)
	}
	pods := slices.Collect(v.List("pods", "d"))
	if len(pods) == 0 {
		return Op{}, false
	}
	p := object.Copy(pods[random.IntN(len(pods))]).(*corev1.Pod)
	switch zero := int64(0); random.IntN(3) {
	case 0:
		return Op{Verb: Delete, Key: object.KeyOf(p), GracePeriodSeconds: &zero}, true
	case 1:
		p.Status.Phase = corev1.PodFailed
	default:
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	}
	return write(UpdateStatus, p), true
}
