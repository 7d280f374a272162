package scheduler

import (
	"math"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestConflicts: which ports of the host are in each other's way.
func TestConflicts(t *testing.T) {
	n := &nodeState{ports: map[port]int{{"10.0.0.1", "TCP", 80}: 1, {everyAddress, "TCP", 81}: 1}}
	for _, tc := range []struct {
		p    port
		want bool
	}{
		{port{"10.0.0.1", "TCP", 80}, true}, {port{"10.0.0.2", "TCP", 80}, false}, {port{everyAddress, "TCP", 80}, true}, {port{"10.0.0.1", "UDP", 80}, false},
		{port{"10.0.0.2", "TCP", 81}, true}, {port{everyAddress, "UDP", 81}, false}, {port{everyAddress, "TCP", 82}, false},
	} {
		if got := n.conflicts(tc.p); got != tc.want {
			t.Errorf("%+v: %v", tc.p, got)
		}
	}
}

// TestAffinityToNobody: a pod that wants to be with others, and is none of those itself, is nowhere where there are none.
func TestAffinityToNobody(t *testing.T) {
	for app, want := range map[string]bool{"db": true, "web": false} {
		p := pod("web", 0, "100m", "")
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}}}
		if d := NewSnapshot(zonal(3)).Schedule([]*corev1.Pod{p})[0]; (d.Node == "") != want {
			t.Errorf("a pod of web that wants to be with %s is on %q: %s", app, d.Node, d.Message)
		}
	}
}

// TestPreferredAntiAffinity: a pod goes where those are not that it would rather be away from.
func TestPreferredAntiAffinity(t *testing.T) {
	c := &cluster{nodes: []*corev1.Node{node("n1", "4", "8Gi", 10), node("n2", "2", "4Gi", 10)}, pods: []*corev1.Pod{running("noisy1", "n1", "100m", 0, 0)}}
	quiet := func(weight int32) *corev1.Pod {
		p := pod("quiet", 0, "100m", "")
		term := corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "noisy"}}}
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: weight, PodAffinityTerm: term}}}}
		return p
	}
	if d := NewSnapshot(c).Schedule([]*corev1.Pod{quiet(100)})[0]; d.Node != "n2" {
		t.Errorf("it is on %q", d.Node)
	}
}

// TestYoungerVictims: of victims that are alike in all else those go that started last.
func TestYoungerVictims(t *testing.T) {
	for _, older := range []string{"n1", "n2"} {
		c := &cluster{nodes: []*corev1.Node{node("n1", "2", "8Gi", 10), node("n2", "2", "8Gi", 10)}}
		for _, n := range c.nodes {
			started := 10
			if n.Name == older {
				started = 5
			}
			c.pods = append(c.pods, running("a"+n.Name, n.Name, "2", 1, started))
		}
		if d := NewSnapshot(c).Schedule([]*corev1.Pod{running("high", "", "1", 100, 0)})[0]; d.Nominated == older || d.Nominated == "" {
			t.Errorf("%q has to give way, where the older pod is", d.Nominated)
		}
	}
}

// guardOf is a budget over the pods of an app.
func guardOf(app string, allowed int32) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "guard", Namespace: "default"}}
	b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	b.Status.DisruptionsAllowed = allowed
	return b
}

// TestDisruptedPods: a pod whose eviction a budget has counted already does not spend of it again.
func TestDisruptedPods(t *testing.T) {
	for _, counted := range []bool{false, true} {
		guard, want := guardOf("b", 0), "a1"
		if counted {
			guard.Status.DisruptedPods, want = map[string]metav1.Time{"b1": metav1.NewTime(time.Unix(1, 0))}, "b1"
		}
		c := &cluster{nodes: []*corev1.Node{node("n1", "2", "8Gi", 10), node("n2", "2", "8Gi", 10)}, more: []object.Object{guard},
			pods: []*corev1.Pod{running("a1", "n1", "2", 50, 0), running("b1", "n2", "2", 1, 0)}}
		if d := NewSnapshot(c).Schedule([]*corev1.Pod{running("high", "", "1", 100, 0)})[0]; podNames(d.Victims) != want {
			t.Errorf("counted %v: %q has to go, want %q", counted, podNames(d.Victims), want)
		}
	}
}

// TestEvenness is 100 less the standard deviation of the shares, in per cent.
func TestEvenness(t *testing.T) {
	for _, tc := range []struct {
		shares []float64
		want   int64
	}{{nil, 100}, {[]float64{0.3}, 100}, {[]float64{0, 1}, 50}, {[]float64{0.25, 0.75}, 75}, {[]float64{0, 0.5, 1}, 59}, {[]float64{0.5, 0.5, 0.5}, 100}} {
		if got := evenness(tc.shares); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.shares, got, tc.want)
		}
	}
}

// TestImageScore: between 23 MiB, which count for nothing, and 1,000 MiB a container.
func TestImageScore(t *testing.T) {
	for _, tc := range []struct {
		size, want int64
		containers int
	}{{23, 0, 1}, {32, 0, 1}, {33, 1, 1}, {1000, 100, 1}, {5000, 100, 1}, {1000, 49, 2}} {
		s := NewSnapshot(&cluster{nodes: []*corev1.Node{node("n", "1", "1Gi", 1)}})
		s.nodes[0].images, s.images = map[string]int64{"c:1": tc.size << 20}, map[string]int64{"c:1": 1}
		if got := s.imageScore(s.nodes[0], []string{"c:1"}, tc.containers); got != tc.want {
			t.Errorf("%d MiB, %d containers: %d, want %d", tc.size, tc.containers, got, tc.want)
		}
	}
}

// TestSpreadWeights: a soft constraint weighs the logarithm of the number of domains and two.
func TestSpreadWeights(t *testing.T) {
	p := pod("web", 0, "100m", "")
	for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone} {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: key,
			WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels}})
	}
	s := NewSnapshot(zonal(12))
	c := s.classOf(p)
	if got := c.spreadWeights(s.candidates(c, &podState{pod: p, demand: c.demand, group: c.group})); !slices.Equal(got, []float64{math.Log(14), math.Log(5)}) {
		t.Errorf("%v for 12 hosts and 3 zones", got)
	}
}

// TestZoneSet: two underlines are between two zones, one may be in a zone's name.
func TestZoneSet(t *testing.T) {
	for value, want := range map[string][]string{"a": {"a"}, "a__b": {"a", "b"}, "eu_1__ eu_2 ": {"eu_1", "eu_2"}, "a__": nil, "": nil} {
		if got := zoneSet(value); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// TestEnforcedAffinity: a profile's own affinity holds for all its pods, and says so.
func TestEnforcedAffinity(t *testing.T) {
	p := DefaultProfile()
	p.AddedAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"z1"}}}}}}}
	for _, v := range NewSnapshotFor(zonal(3), Profiles{corev1.DefaultSchedulerName: p}).Verdicts(pod("web", 0, "100m", "")) {
		if v.Fits != (v.Node == "n1") || !v.Fits && v.Reasons[0] != refuseEnforced.reasons[0] {
			t.Errorf("%s: %+v", v.Node, v)
		}
	}
}

// keptWorld is two nodes that are full, of pods with priority 50 and 1, and a snapshot that is kept of them.
func keptWorld(budget *policyv1.PodDisruptionBudget, lower int32) (w *world, next func() Decision) {
	w = &world{objects: map[object.Key]object.Object{}}
	for _, n := range []string{"n1", "n2"} {
		w.put(node(n, "2", "8Gi", 10))
	}
	w.put(running("a1", "n1", "2", 50, 5))
	w.put(running("b1", "n2", "2", lower, 10))
	if budget != nil {
		w.put(budget)
	}
	k, high := &Kept{}, running("high", "", "1", 100, 0)
	profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
	return w, func() Decision {
		s := k.Bring(w, profiles, w.changed)
		defer k.Done()
		w.changed = nil
		return s.Schedule([]*corev1.Pod{high})[0]
	}
}

// TestKeptBudget: a snapshot that is kept hears of a budget that allows more than before.
func TestKeptBudget(t *testing.T) {
	w, next := keptWorld(guardOf("b", 0), 1)
	if d := next(); podNames(d.Victims) != "a1" {
		t.Fatalf("%q has to go, but b1 is protected", podNames(d.Victims))
	}
	w.put(guardOf("b", 1))
	if d := next(); podNames(d.Victims) != "b1" {
		t.Errorf("%q has to go, but the budget allows b1 now", podNames(d.Victims))
	}
}

// TestKeptStart: a snapshot that is kept hears that a pod has started, which matters for who has to go first.
func TestKeptStart(t *testing.T) {
	w, next := keptWorld(nil, 50)
	if d := next(); podNames(d.Victims) != "b1" {
		t.Fatalf("%q has to go, but b1 started later", podNames(d.Victims))
	}
	o, _ := w.Get(object.Key{Resource: "pods", Namespace: "default", Name: "a1"})
	a := o.(*corev1.Pod).DeepCopy()
	a.Status.StartTime = &metav1.Time{Time: a.Status.StartTime.Add(time.Hour)}
	w.put(a)
	if d := next(); podNames(d.Victims) != "a1" {
		t.Errorf("%q has to go, but a1 started later", podNames(d.Victims))
	}
}

// TestShortRefusal: nodes that lack the same share what is said of them, and no others do.
func TestShortRefusal(t *testing.T) {
	s := NewSnapshot(&cluster{})
	seen := map[*refusal]string{}
	for _, offers := range []amounts{{cpu: 1, memory: 1, storage: 1}, {cpu: 9, memory: 1, storage: 1}, {cpu: 9, memory: 9, storage: 1}, {cpu: 9, memory: 9, storage: 9}} {
		for _, used := range []amounts{{}, {cpu: 9}, {memory: 9}, {storage: 9}, {cpu: 9, memory: 9, storage: 9}} {
			for maxPods := range int64(2) {
				n, d := &nodeState{allocatable: offers, used: used, maxPods: maxPods}, &demand{requests: amounts{cpu: 5, memory: 5, storage: 5}}
				got, want := s.shortRefusal(n, d), n.shortRefusal(d)
				if !slices.Equal(got.reasons, want.reasons) || got.unresolvable != want.unresolvable || got.plugin != want.plugin {
					t.Errorf("%+v of %+v: %+v, want %+v", used, offers, got, want)
				}
				seen[got] = got.plugin
			}
		}
	}
	if len(seen) < 8 || len(seen) > 24 {
		t.Errorf("%d refusals", len(seen))
	}
	gpu := amounts{other: map[corev1.ResourceName]int64{"example.com/gpu": 1}}
	if r := s.shortRefusal(&nodeState{maxPods: 1}, &demand{requests: gpu}); len(r.reasons) != 1 || r.reasons[0] != "Insufficient example.com/gpu" || !r.unresolvable {
		t.Errorf("%+v", r)
	}
}
