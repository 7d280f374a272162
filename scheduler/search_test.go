package scheduler

import (
	"fmt"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// TestSearch: a class without buckets finds the node that its buckets would tell, whatever the nodes offer and have.
func TestSearch(t *testing.T) {
	searched := 0
	rapid.Check(t, func(rt *rapid.T) {
		c := &cluster{}
		alike, empty := rapid.Bool().Draw(rt, "alike"), rapid.Bool().Draw(rt, "empty")
		for _, name := range []string{"a", "b"} {
			rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
			rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
			c.more = append(c.more, rs)
		}
		draw := rapid.Uint64().Draw(rt, "seed")
		random := func(n uint64) int { draw = mix(draw + 0x9e3779b97f4a7c15); return int(draw % n) }
		for i := range rapid.IntRange(1, 150).Draw(rt, "nodes") {
			n := node("n"+strconv.Itoa(i), "16", "64Gi", 110)
			n.Labels[corev1.LabelTopologyZone] = "z" + strconv.Itoa(random(3))
			if !alike {
				n = c.odd(n, random)
			}
			c.nodes = append(c.nodes, n)
			for k := range random(4) {
				if empty {
					break
				}
				p := pod("old", i*10+k, fmt.Sprintf("%dm", random(4)*500), fmt.Sprintf("%dMi", random(5)*1000))
				p.Spec.NodeName = n.Name
				c.pods = append(c.pods, p)
			}
		}
		for i := range rapid.IntRange(0, 2).Draw(rt, "others nominated") {
			p := pod("before", i, "12", "")
			p.Spec.Priority, p.Status.NominatedNodeName = ptr.To[int32](1), "n"+strconv.Itoa(random(20))
			c.pods = append(c.pods, p)
		}
		var pods []*corev1.Pod
		for i := range rapid.IntRange(1, 60).Draw(rt, "pods") {
			p := pod(rapid.SampledFrom([]string{"a", "b", "c", "d", "e", ""}).Draw(rt, "owner"), i, "", "")
			asks := p.Spec.Containers[0].Resources.Requests
			if cpu := random(2000); cpu > 200 {
				asks["cpu"] = *resource.NewMilliQuantity(int64(cpu), resource.DecimalSI)
			}
			if memory := random(4000); memory > 500 {
				asks["memory"] = *resource.NewQuantity(int64(memory)<<20, resource.BinarySI)
			}
			if rapid.IntRange(0, 2).Draw(rt, "rules") == 0 {
				drawOthers(rt, p)
			}
			if rapid.IntRange(0, 9).Draw(rt, "prefers") == 0 {
				p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 10,
					Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: "In", Values: []string{"z1"}}}}}}}}
			}
			p.Spec.Containers[0].Image = "image"
			p.Status.NominatedNodeName = rapid.SampledFrom([]string{"", "", "", "", "", "n0"}).Draw(rt, "nominated")
			pods = append(pods, p)
		}
		quick, slow := NewSnapshot(c), NewSnapshot(c)
		for _, p := range pods {
			if random(3) == 0 {
				leave(quick, slow, int32(random(uint64(len(c.nodes)))))
			}
			got := quick.Schedule([]*corev1.Pod{p})[0]
			if k := quick.classOf(p); k.searches > 0 {
				searched++
			}
			if k := slow.classOf(p); k.all == nil {
				slow.full(k)
			}
			if want := slow.Schedule([]*corev1.Pod{p})[0]; decisionText(got) != decisionText(want) {
				rt.Fatalf("found without buckets\n%s\nwith them\n%s", decisionText(got), decisionText(want))
			}
		}
	})
	if searched == 0 {
		t.Error("nothing was found without buckets")
	}
}

// leave takes a pod away from a node of both snapshots, if there is one.
func leave(a, b *Snapshot, at int32) {
	if len(a.nodes[at].pods) > 0 {
		a.take(at, a.nodes[at].pods[0])
		b.take(at, b.nodes[at].pods[0])
	}
}

// odd makes a node unlike others.
func (*cluster) odd(n *corev1.Node, random func(uint64) int) *corev1.Node {
	a := n.Status.Allocatable
	a["cpu"] = *resource.NewMilliQuantity(int64(1000*(1+random(32))+random(100)), resource.DecimalSI)
	a["memory"] = *resource.NewQuantity(int64(1+random(64))<<30+int64(random(1<<20)), resource.BinarySI)
	switch random(20) {
	case 0:
		delete(a, "memory")
	case 1:
		a["pods"] = *resource.NewQuantity(int64(random(6)), resource.DecimalSI)
	case 2:
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"image:latest"}, SizeBytes: 900 << 20}}
	case 3:
		n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectPreferNoSchedule}}
	case 4:
		n.Spec.Unschedulable = true
	case 5:
		delete(n.Labels, corev1.LabelTopologyZone)
	}
	return n
}
