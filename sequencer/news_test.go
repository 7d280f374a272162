package sequencer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// TestNewReasonOfTheKeptSnapshot: pods that waited for one thing, and wait for another since their node changed, say so within ten seconds, those that are
// alike too, though the snapshot that is kept need not try them to know that no node takes them.
func TestNewReasonOfTheKeptSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, err := controller.NewSet(controller.Config{ClusterID: "news", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.244.0.0/16")})
		if err != nil {
			t.Fatal(err)
		}
		w := &twice{Controllers: Controllers{set}, t: t}
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) { c.Settler = w })
		room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("12")}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelHostname: "n1"}}}
		node.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
		r.must(write(Create, node))
		pod := func(name string, cpu string, selector map[string]string) *corev1.Pod {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "d"}}
			p.Spec.NodeSelector = selector
			p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}
			return p
		}
		ssd := map[string]string{"disk": "ssd"}
		for i := range 5 {
			r.must(write(Create, pod(fmt.Sprintf("alike%d", i), "100", ssd)))
		}
		for i := range 5 {
			r.must(write(Create, pod(fmt.Sprintf("own%d", i), fmt.Sprint(100+i), ssd)))
		}
		say := func(what string) (n int) {
			for p := range cluster.NewView(r.store.View()).Unbound() {
				for _, c := range p.Status.Conditions {
					if c.Type == corev1.PodScheduled && strings.Contains(c.Message, what) {
						n++
					}
				}
			}
			return n
		}
		until := func(what string, within time.Duration) {
			t.Helper()
			time.Sleep(within)
			synctest.Wait()
			if n := say(what); n != 10 {
				t.Errorf("%d of 10 pods say %q", n, what)
			}
		}
		until("didn't match Pod's node affinity", time.Second)
		r.change(t, "n1", func(n *corev1.Node) { n.Labels["disk"] = "ssd" })
		until("Insufficient cpu", 10*time.Second)
		r.change(t, "n1", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "zone", Value: "a", Effect: corev1.TaintEffectNoSchedule}}
		})
		until("untolerated taint", 10*time.Second)
		r.change(t, "n1", func(n *corev1.Node) { n.Spec.Taints = nil })
		until("Insufficient cpu", 10*time.Second)
		r.stop()
		if w.kept < 20 {
			t.Errorf("only %d Settles had a snapshot lent", w.kept)
		}
	})
}

// change writes a changed node.
func (r *rig) change(t *testing.T, name string, change func(*corev1.Node)) {
	t.Helper()
	o, ok := cluster.NewView(r.store.View()).Get(object.Key{Resource: "nodes", Name: name})
	if !ok {
		t.Fatalf("there is no node %s", name)
	}
	n := object.Copy(o).(*corev1.Node)
	change(n)
	r.must(write(Update, n))
}
