package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// measured is a cluster whose pods' use is known.
type measured struct {
	*cluster
	usage map[string]string // CPU by the pod's name
}

func (m *measured) Usage(pod object.Key) (object.Usage, bool) {
	cpu, ok := m.usage[pod.Name]
	if !ok {
		return object.Usage{}, false
	}
	return object.Usage{Containers: map[string]corev1.ResourceList{"c": {"cpu": resource.MustParse(cpu)}}}, true
}

// withProfile adds the ConfigMap with a profile of the name other, as a user writes it.
func (c *cluster) withProfile(text string) {
	c.more = append(c.more, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "scheduler-profiles"}, Data: map[string]string{"other": text}})
}

func on(p *corev1.Pod, node string) *corev1.Pod { p.Spec.NodeName = node; return p }

func of(p *corev1.Pod, profile string) *corev1.Pod { p.Spec.SchedulerName = profile; return p }

// TestMeasuredLoad: a profile that weighs it sends pods where least is used, whatever was asked for; the default profile goes by what was asked for. What
// comes at once counts as it asks, so that not all of it goes to one node.
func TestMeasuredLoad(t *testing.T) {
	c := &measured{&cluster{nodes: []*corev1.Node{node("a", "4", "8Gi", 110), node("b", "4", "8Gi", 110)}}, map[string]string{"busy0": "3500m", "idle0": "10m"}}
	c.pods = []*corev1.Pod{on(pod("busy", 0, "100m", ""), "a"), on(pod("idle", 0, "2", ""), "b")}
	c.withProfile("weights: {MeasuredLoad: 10}")
	profiles, err := ReadProfiles(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ profile, want string }{{"default-scheduler", "a a a"}, {"other", "b b b"}} {
		var got []string
		for _, d := range NewSnapshotFor(c, profiles).Schedule([]*corev1.Pod{of(pod("x", 0, "100m", ""), tc.profile), of(pod("x", 1, "100m", ""), tc.profile), of(pod("x", 2, "100m", ""), tc.profile)}) {
			got = append(got, d.Node)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: placed on %v, want %s", tc.profile, got, tc.want)
		}
	}
	alike := &measured{&cluster{nodes: []*corev1.Node{node("a", "4", "8Gi", 110), node("b", "4", "8Gi", 110)}, more: c.more}, map[string]string{}}
	counts := map[string]int{}
	var many []*corev1.Pod
	for i := range 10 {
		many = append(many, of(pod("x", i, "300m", ""), "other"))
	}
	for _, d := range NewSnapshotFor(alike, profiles).Schedule(many) {
		counts[d.Node]++
	}
	if counts["a"] != 5 || counts["b"] != 5 {
		t.Errorf("ten pods that were not measured are spread as %v", counts)
	}
}

// TestNetworkDistance: a profile that weighs it places a part of an application near the others: on their host if there is room, else in their zone, else in
// their region, and the replicas of one part do not draw each other.
func TestNetworkDistance(t *testing.T) {
	var nodes []*corev1.Node
	for _, at := range []string{"a r1 z1", "b r1 z1", "c r1 z2", "d r2 z3", "e r2 z3"} {
		f := strings.Fields(at)
		n := node(f[0], "4", "8Gi", 110)
		n.Labels[corev1.LabelTopologyRegion], n.Labels[corev1.LabelTopologyZone] = f[1], f[2]
		nodes = append(nodes, n)
	}
	part := func(name string, slot int, cpu string) *corev1.Pod {
		p := pod(name, slot, cpu, "")
		p.Labels[labelPartOf], p.Labels[labelPart] = "shop", name
		return of(p, "other")
	}
	c := &cluster{nodes: nodes, pods: []*corev1.Pod{on(part("db", 0, "100m"), "a")}}
	c.withProfile("weights: {NetworkDistance: 50}\nsystemDefaults: false")
	profiles, err := ReadProfiles(c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range NewSnapshotFor(c, profiles).Schedule([]*corev1.Pod{part("web", 0, "3"), part("web", 1, "3"), part("web", 2, "3"), part("web", 3, "3")}) {
		got = append(got, d.Node)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(got[:3], want) || got[3] != "d" && got[3] != "e" {
		t.Errorf("placed on %v, want %v and one of the other region", got, want)
	}
	// What it was scored by is told.
	for _, v := range NewSnapshotFor(c, profiles).Verdicts(part("web", 0, "3")) {
		want := map[string]int64{"a": 100, "b": 66, "c": 33, "d": 0, "e": 0}[v.Node]
		if i := slices.IndexFunc(v.Scores, func(s PluginScore) bool { return s.Plugin == networkDistance }); i < 0 || v.Scores[i].Score != want {
			t.Errorf("%s: %+v, want %s %d", v.Node, v.Scores, networkDistance, want)
		}
	}
	lone := part("db", 1, "3")
	for _, v := range NewSnapshotFor(c, profiles).Verdicts(lone) {
		if i := slices.IndexFunc(v.Scores, func(s PluginScore) bool { return s.Plugin == networkDistance }); v.Scores[i].Score != 0 {
			t.Errorf("%s draws another pod of the same part: %+v", v.Node, v.Scores)
		}
	}
}

// TestExtensions: a profile may name functions of one's own that refuse nodes and score them; other profiles are as without.
func TestExtensions(t *testing.T) {
	even := &Extension{Name: "EvenRacks", Filter: func(_ *corev1.Pod, n *corev1.Node) string {
		if n.Labels["rack"] == "odd" {
			return "node(s) stood in an odd rack"
		}
		return ""
	}, Score: func(p *corev1.Pod, n *corev1.Node) int64 {
		if n.Labels["colour"] == p.Labels["app"] {
			return 1000 // more than there is counts as 100
		}
		return 0
	}}
	var nodes []*corev1.Node
	for i, rack := range []string{"odd", "even", "even"} {
		n := node(fmt.Sprintf("n%d", i), "4", "8Gi", 110)
		n.Labels["rack"] = rack
		nodes = append(nodes, n)
	}
	nodes[1].Labels["colour"], nodes[1].Status.Allocatable["cpu"] = "x", resource.MustParse("3")
	c := &cluster{nodes: nodes}
	c.withProfile("extensions: [EvenRacks]")
	profiles, err := ReadProfiles(c, even)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSnapshotFor(c, profiles)
	if d := s.Schedule([]*corev1.Pod{of(pod("x", 0, "100m", ""), "other")})[0]; d.Node != "n1" {
		t.Errorf("the pod is on %q (%s), want the node of its colour", d.Node, d.Message)
	}
	v := NewSnapshotFor(c, profiles).Verdicts(of(pod("x", 0, "100m", ""), "other"))
	if v[0].Fits || v[0].Plugin != "EvenRacks" || v[0].Reasons[0] != "node(s) stood in an odd rack" {
		t.Errorf("n0: %+v", v[0])
	}
	if last := v[1].Scores[len(v[1].Scores)-1]; last != (PluginScore{"EvenRacks", 100, 1}) {
		t.Errorf("n1: %+v", last)
	}
	if d := NewSnapshotFor(c, profiles).Schedule([]*corev1.Pod{of(pod("x", 0, "3500m", ""), "other"), of(pod("x", 1, "3500m", ""), "other")})[1]; !strings.Contains(d.Message, "1 node(s) stood in an odd rack") {
		t.Errorf("the message is %q", d.Message)
	}
	if v := NewSnapshotFor(c, profiles).Verdicts(pod("x", 0, "100m", "")); !v[0].Fits {
		t.Errorf("the default profile: %+v", v[0])
	}
	if p, err := ReadProfiles(c); err == nil || !strings.Contains(err.Error(), "EvenRacks: this program has none of that name") || len(p) != 1 {
		t.Errorf("an unknown extension: %v, %v", err, p)
	}
}
