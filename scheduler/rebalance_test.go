package scheduler

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

// TestRebalance: pods leave the full node for the empty one until moving is not worth it; then nothing more is proposed. Bare pods stay.
func TestRebalance(t *testing.T) {
	c := &cluster{nodes: []*corev1.Node{node("n1", "8", "32Gi", 110), node("n2", "8", "32Gi", 110)}}
	for i := range 8 {
		p := pod("web", i, "800m", "3Gi")
		p.Spec.NodeName = "n1"
		c.pods = append(c.pods, p)
	}
	bare := pod("", 0, "800m", "3Gi")
	bare.Name, bare.Spec.NodeName = "bare", "n1"
	c.pods = append(c.pods, bare)
	s := NewSnapshot(c)
	moves := s.Rebalance(5, 100)
	for _, m := range moves {
		if m.From != "n1" || m.To != "n2" || m.Gain < 5 || m.Pod.Name == "bare" {
			t.Errorf("%s from %s to %s gains %d", m.Pod.Name, m.From, m.To, m.Gain)
		}
	}
	if len(moves) != 4 {
		t.Errorf("%d moves of 9 pods on one of two nodes", len(moves))
	}
	if again := s.Rebalance(5, 100); len(again) != 0 {
		t.Errorf("still %d moves afterwards", len(again))
	}
	if few := NewSnapshot(c).Rebalance(5, 2); len(few) != 2 {
		t.Errorf("%d moves where two are asked for", len(few))
	}
}

// TestRebalanceMovesAPodOnce proposes no pod twice, also where it went to a node that is looked at later, in clusters at random.
func TestRebalanceMovesAPodOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{}
		for i := range rapid.IntRange(2, 6).Draw(t, "nodes") {
			n := node(fmt.Sprintf("n%d", i), fmt.Sprint(rapid.IntRange(1, 8).Draw(t, "cpu")), "32Gi", 110)
			n.Labels["zone"] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")
			c.nodes = append(c.nodes, n)
		}
		for i := range rapid.IntRange(1, 20).Draw(t, "pods") {
			p := pod(rapid.SampledFrom([]string{"web", "db"}).Draw(t, "owner"), i, fmt.Sprintf("%dm", rapid.IntRange(1, 10).Draw(t, "asks")*100), "1Gi")
			p.UID = types.UID(fmt.Sprint(i))
			p.Spec.NodeName = c.nodes[rapid.IntRange(0, len(c.nodes)-1).Draw(t, "on")].Name
			c.pods = append(c.pods, p)
		}
		seen := map[string]bool{}
		for _, m := range NewSnapshot(c).Rebalance(1, 100) {
			if seen[m.Pod.Name] {
				t.Fatalf("%s is moved twice", m.Pod.Name)
			}
			seen[m.Pod.Name] = true
		}
	})
}

// TestWithout tells where the pods of a node would go, and which would find no place.
func TestWithout(t *testing.T) {
	c := &cluster{nodes: []*corev1.Node{node("n1", "2", "8Gi", 110), node("n2", "2", "8Gi", 110), node("n3", "1", "8Gi", 110)}}
	for i := range 2 {
		p := pod("web", i, "1", "")
		p.Spec.NodeName = "n1"
		c.pods = append(c.pods, p)
	}
	other := pod("db", 0, "2", "")
	other.Spec.NodeName = "n2"
	c.pods = append(c.pods, other)
	var out []string
	for _, d := range NewSnapshot(c).Without("n1") {
		out = append(out, fmt.Sprintf("%s %s %s", d.Pod.Name, d.Node, d.Message))
	}
	got := strings.Join(out, "\n")
	if want := "web0 n3 \nweb1  0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
