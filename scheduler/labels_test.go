package scheduler

import (
	"fmt"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// zonal is so many nodes of 16 CPUs, in three zones.
func zonal(nodes int) *cluster {
	c := &cluster{}
	for i := range nodes {
		n := node("n"+strconv.Itoa(i), "16", "64Gi", 110)
		n.Labels[corev1.LabelTopologyZone] = "z" + strconv.Itoa(i%3)
		c.nodes = append(c.nodes, n)
	}
	return c
}

func labelled(p *corev1.Pod, key, value string) *corev1.Pod {
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[key] = value
	return p
}

// TestLabelsThatNobodyReads: pods that differ in them only are one class and one group, until somebody reads them.
func TestLabelsThatNobodyReads(t *testing.T) {
	c := zonal(6)
	sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"}}
	sts.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}
	c.more = append(c.more, sts)
	member := func(i int) *corev1.Pod {
		p := labelled(pod("db", i, "100m", ""), appsv1.StatefulSetPodNameLabel, fmt.Sprint("db-", i))
		p.OwnerReferences[0].Kind = "StatefulSet"
		return p
	}
	s := NewSnapshot(c)
	var pods []*corev1.Pod
	for i := range 30 {
		pods = append(pods, member(i))
	}
	place := func(p *corev1.Pod) string {
		t.Helper()
		d := s.Schedule([]*corev1.Pod{p})[0]
		if d.Node == "" {
			t.Fatal(d.Message)
		}
		return d.Node
	}
	for _, p := range pods {
		place(p)
	}
	if n := len(s.groups.all); n != 1 {
		t.Errorf("%d groups of 30 like pods", n)
	}
	near := pod("near", 0, "100m", "")
	near.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{appsv1.StatefulSetPodNameLabel: "db-17"}}}}}}
	want := ""
	for _, n := range s.nodes {
		for _, p := range n.pods {
			if p.pod == pods[17] {
				want = n.node.Name
			}
		}
	}
	if got := place(near); got != want {
		t.Errorf("a pod that wants to be with db-17 is on %s, db-17 on %s", got, want)
	}
	if n := len(s.groups.all); n != 31 {
		t.Errorf("%d groups where a term reads the names of 30 pods", n)
	}
	was := s.groups
	if place(member(31)); s.groups != was {
		t.Error("the groups are made anew for a pod that reads nothing new")
	}
}

// TestLabelsOfAService: pods of two services are two classes, though the first that came is of none; also where the service comes later.
func TestLabelsOfAService(t *testing.T) {
	w := &world{objects: map[object.Key]object.Object{}}
	for _, n := range zonal(3).nodes {
		w.put(n)
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc", Namespace: "default"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"colour": "blue"}}}
	profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
	red, blue := labelled(pod("", 0, "100m", ""), "colour", "red"), labelled(pod("", 1, "100m", ""), "colour", "blue")
	check := func(s *Snapshot, want int) {
		t.Helper()
		if r, b := len(s.classOf(red).soft), len(s.classOf(blue).soft); r != 0 || b != want {
			t.Errorf("%d default constraints for the red pod, which is of no service, and %d for the blue one, not %d", r, b, want)
		}
	}
	var k Kept
	check(k.Bring(w, profiles, nil), 0)
	k.Done()
	w.changed = nil
	w.put(svc)
	check(k.Bring(w, profiles, w.changed), 2)
	check(NewSnapshot(w), 2)
}

// TestLabelsOfOneNamespace: when a label comes to be read in one namespace, the groups of others stay, and so do classes of pods without it.
func TestLabelsOfOneNamespace(t *testing.T) {
	s := NewSnapshot(zonal(3))
	var pods []*corev1.Pod
	for i, ns := range []string{"default", "default", "other", "other"} {
		p := labelled(pod("", i, "100m", ""), "own", strconv.Itoa(i))
		p.Namespace = ns
		pods = append(pods, p)
	}
	plain := pod("", 9, "200m", "")
	s.Schedule(append(pods, plain))
	class, there := s.classOf(plain), s.classOf(pods[2]).group
	reader := pod("", 10, "100m", "")
	reader.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"own": "1"}}}}
	c := s.classOf(reader)
	if total := c.slots[c.hard[0].slot].total; total != 1 {
		t.Errorf("%d pods are counted, want the one that has the label", total)
	}
	if s.classOf(plain) != class || s.classOf(pods[3]).group != there || there.among != s.groups {
		t.Error("a namespace that nobody asked about is told apart anew")
	}
	if s.classOf(pods[0]) == s.classOf(pods[1]) {
		t.Error("pods that differ in a label that is read are one class")
	}
	// The class was made before the label was read: its pods come to their group of today.
	s.Schedule([]*corev1.Pod{pod("", 11, "200m", "")})
	for _, g := range s.groups.all {
		if g.among != s.groups {
			t.Error("a group of before has pods")
		}
	}
	for _, n := range s.nodes {
		for _, p := range n.pods {
			if p.group.among != s.groups || p.group.on[s.byName[n.node.Name]] == 0 {
				t.Errorf("%s is in a group of before", p.pod.Name)
			}
		}
	}
}

// TestLabelsOfMatchLabelKeys: a pod that lacks the label does not share its class with one that has it.
func TestLabelsOfMatchLabelKeys(t *testing.T) {
	s := NewSnapshot(zonal(3))
	var selectors []string
	for i, value := range []string{"", "1", "2"} {
		p := pod("", i, "100m", "")
		if value != "" {
			labelled(p, "revision", value)
		}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"revision"}}}
		selectors = append(selectors, s.classOf(p).hard[0].selector.String())
	}
	if got := fmt.Sprintf("%q", selectors); got != `["" "revision=1" "revision=2"]` {
		t.Error(got)
	}
}

// TestLabelsAndExtensions: where a profile has plugins of somebody's own, which may look at any label, all labels tell classes apart.
func TestLabelsAndExtensions(t *testing.T) {
	own := DefaultProfile()
	own.Extensions = []string{"Red"}
	red := &Extension{Name: "Red", Filter: func(p *corev1.Pod, _ *corev1.Node) string {
		if p.Labels["colour"] == "red" {
			return "no red pods"
		}
		return ""
	}}
	if err := own.extend([]*Extension{red}); err != nil {
		t.Fatal(err)
	}
	s := NewSnapshotFor(zonal(3), Profiles{corev1.DefaultSchedulerName: own})
	d := s.Schedule([]*corev1.Pod{labelled(pod("", 0, "100m", ""), "colour", "red"), labelled(pod("", 1, "100m", ""), "colour", "blue")})
	if d[0].Node != "" || d[1].Node == "" {
		t.Errorf("red is on %q, blue on %q", d[0].Node, d[1].Node)
	}
}

// TestManyLabels: with more keys than are worth telling, all labels tell pods apart.
func TestManyLabels(t *testing.T) {
	k := newLabelKeys()
	a, b := map[string]string{"x": "1", "y": "1"}, map[string]string{"x": "1", "y": "2", "z": "1"}
	if !k.same("ns", a, b) || k.hash("ns", a) != k.hash("ns", b) {
		t.Error("labels that nobody reads differ")
	}
	k.add("ns", "z")
	if k.same("ns", a, b) || k.same("ns", b, a) || !k.same("other", a, b) {
		t.Error("a label that is read in one namespace is one there, and there only")
	}
	for i := range maxLabelKeys + 1 {
		k.add("ns", strconv.Itoa(i))
	}
	b = map[string]string{"x": "1", "y": "2"}
	if k.same("ns", a, b) || k.hash("ns", a) == k.hash("ns", b) {
		t.Error("with many keys in a namespace, labels are the same still")
	}
	if !k.same("other", a, b) || k.hash("other", a) != k.hash("other", b) {
		t.Error("many keys in a namespace matter in another")
	}
	for i := range maxLabelKeys + 1 {
		k.add(fmt.Sprint("ns", i), strconv.Itoa(i))
	}
	if !k.same("other", a, b) {
		t.Error("many namespaces with a key each matter in another")
	}
	for i := range maxLabelKeys + 1 {
		k.add("", strconv.Itoa(i))
	}
	if k.same("other", a, b) {
		t.Error("with many keys everywhere, labels are the same still")
	}
}

// TestZonesInTurn: of nodes that are as good, one of the zone with the fewest pods of the owner is taken, so that each owner's are even.
func TestZonesInTurn(t *testing.T) {
	s := NewSnapshot(zonal(300))
	count := map[string]map[string]int{"a": {}, "b": {}, "": {}}
	var pods []*corev1.Pod
	for i := range 120 {
		owner := []string{"a", "b", "b", ""}[i%4]
		pods = append(pods, labelled(pod(owner, i, "100m", "64Mi"), "app", owner))
	}
	for _, d := range s.Schedule(pods) {
		count[d.Pod.Labels["app"]][s.nodes[s.byName[d.Node]].node.Labels[corev1.LabelTopologyZone]]++
	}
	if got := fmt.Sprint(count); got != "map[:map[z0:10 z1:10 z2:10] a:map[z0:10 z1:10 z2:10] b:map[z0:20 z1:20 z2:20]]" {
		t.Error(got)
	}
}
