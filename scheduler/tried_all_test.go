package scheduler

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestHelpedAreTried holds changes that help a pod which waits, though its node had the room before: what refused the pod was not that node's own.
func TestHelpedAreTried(t *testing.T) {
	waits := func(name string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := running(name, "", "1", 0, 0)
		p.Labels = nil
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
		for _, f := range change {
			f(p)
		}
		return p
	}
	inGang := func(p *corev1.Pod) { p.Labels = map[string]string{LabelGang: "g", LabelGangMin: "2"} }
	gang := &metav1.LabelSelector{MatchLabels: map[string]string{LabelGang: "g"}}
	together := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: gang}}}}
	}
	even := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 2, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: gang}}
	}
	few := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 9, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: gang}}
	}
	nominated := func(p *corev1.Pod) {
		high := int32(100)
		p.Spec.Priority, p.Status.NominatedNodeName = &high, "n1"
		p.Spec.Containers[0].Resources = memory("5Gi")
	}
	victim := going(running("x3", "n1", "1", 9, 0))
	victim.Spec.Containers[0].Resources = memory("4Gi")
	gone := func(name string) func(*world) {
		return func(w *world) { w.remove(object.Key{Resource: "pods", Namespace: "default", Name: name}) }
	}
	big, small := node("n1", "2", "8Gi", 20), node("n1", "8", "8Gi", 4)
	labelled := func(n *corev1.Node, key, value string) *corev1.Node {
		n.Labels[key] = value
		return n
	}
	pinned := func(p *corev1.Pod) {
		name := corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{name}}}}}}
	}
	app := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "a"} }
	byRack := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "rack", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}
	}
	hermit := running("x1", "n1", "2", 9, 0)
	hermit.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "rack", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}}}
	inRack := running("x1", "n1", "1", 9, 0)
	app(inRack)
	for name, c := range map[string]struct {
		node   *corev1.Node
		bound  []*corev1.Pod
		waits  []*corev1.Pod
		change func(*world)
		other  *corev1.Node
	}{
		"a daemon's pod of a node where one ends": {big, []*corev1.Pod{running("x1", "n1", "2", 9, 0)}, []*corev1.Pod{waits("daemon", pinned)}, gone("x1"), nil},
		"a constraint whose emptiest rack goes": {labelled(node("n1", "2", "8Gi", 20), "rack", "r1"), []*corev1.Pod{inRack, running("x2", "n2", "2", 9, 0)}, []*corev1.Pod{waits("even", app, byRack)},
			func(w *world) { w.remove(object.Key{Resource: "nodes", Name: "n2"}) }, labelled(node("n2", "2", "8Gi", 20), "rack", "r2")},
		"one that another's anti-affinity kept off a node that leaves the rack": {labelled(node("n1", "2", "8Gi", 20), "rack", "r1"), []*corev1.Pod{hermit}, []*corev1.Pod{waits("near", app)},
			func(w *world) { w.put(labelled(node("n2", "2", "8Gi", 20), "rack", "r2")) }, labelled(node("n2", "2", "8Gi", 20), "rack", "r1")},
		"a gang that wants to be together": {big, []*corev1.Pod{running("x1", "n1", "1", 0, 0)}, []*corev1.Pod{waits("g1", inGang, together), waits("g2", inGang, together)}, gone("x1"), nil},
		"a gang that wants to be even":     {big, []*corev1.Pod{running("x1", "n1", "1", 0, 0)}, []*corev1.Pod{waits("g1", inGang, even), waits("g2", inGang, even)}, gone("x1"), nil},
		"a gang that a running pod joins": {big, []*corev1.Pod{running("x1", "n1", "1", 0, 0)}, []*corev1.Pod{waits("g1", inGang)}, func(w *world) {
			p := running("x1", "n1", "1", 0, 0)
			inGang(p)
			w.put(p)
		}, nil},
		"a pod beside one that asks for less now": {big, []*corev1.Pod{running("x1", "n1", "1500m", 9, 0)}, []*corev1.Pod{waits("then")}, func(w *world) {
			w.put(running("x1", "n1", "500m", 9, 0))
		}, nil},
		"a pod that a nominated one kept out": {small, []*corev1.Pod{running("x1", "n1", "1", 9, 0), running("x2", "n1", "1", 9, 0), victim},
			[]*corev1.Pod{waits("first", nominated), waits("then", few)}, gone("x1"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{objects: map[object.Key]object.Object{}}
			w.put(c.node.DeepCopy())
			if c.other != nil {
				w.put(c.other)
			}
			for _, p := range slices.Concat(c.bound, c.waits) {
				w.put(p)
			}
			profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
			var k Kept
			if got := effects(k.Bring(w, profiles, nil).ScheduleWaiting(nil)); len(got) > 0 {
				t.Fatalf("not all wait: %v", got)
			}
			k.Done()
			w.changed = nil
			c.change(w)
			want := effects(NewSnapshotFor(w, profiles).ScheduleWaiting(nil))
			if got := effects(k.Bring(w, profiles, w.changed).ScheduleWaiting(nil)); !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("of those that something may have helped %v, of all %v", got, want)
			}
		})
	}
}

// TestTriedAgainInTheNextStep: what one step leaves half done the next one takes up, as if all were tried.
func TestTriedAgainInTheNextStep(t *testing.T) {
	waits := func(name string, change func(*corev1.Pod)) *corev1.Pod {
		p := running(name, "", "1", 0, 0)
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}
		change(p)
		return p
	}
	member := func(role string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Labels = map[string]string{LabelGang: "g", LabelGangMin: "2", "role": role} }
	}
	follows := func(p *corev1.Pod) {
		member("follower")(p)
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"role": "leader"}}}}}}
	}
	for name, c := range map[string]struct {
		list  []*corev1.Pod
		first string
		lost  bool // what the first step decides is not written
	}{
		"the rest of a gang": {[]*corev1.Pod{waits("g1", follows), waits("g2", member("leader")), waits("g3", member("leader"))}, "g2 on n1,g3 on n1", false},
		"a nomination that was to end": {[]*corev1.Pod{waits("late", func(p *corev1.Pod) {
			p.Status.NominatedNodeName = "n1"
			p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		})}, "late nominated no more", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{objects: map[object.Key]object.Object{}}
			w.put(node("n1", "8", "8Gi", 20))
			for _, p := range c.list {
				w.put(p)
			}
			profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
			var k Kept
			list := k.Bring(w, profiles, nil).ScheduleWaiting(nil)
			k.Done()
			if got := strings.Join(effects(list), ","); got != c.first {
				t.Fatalf("the first step does %q, want %q", got, c.first)
			}
			w.changed = nil
			for _, d := range list {
				if p := d.Pod.DeepCopy(); d.Node != "" && !c.lost {
					p.Spec.NodeName = d.Node
					w.put(p)
				}
			}
			want := effects(NewSnapshotFor(w, profiles).ScheduleWaiting(nil))
			if got := effects(k.Bring(w, profiles, w.changed).ScheduleWaiting(nil)); !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("then it does %v, and with all tried %v", got, want)
			}
		})
	}
}

func memory(amount string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(amount)}}
}

// going is a pod whose deletion has begun.
func going(p *corev1.Pod) *corev1.Pod {
	p.DeletionTimestamp = &metav1.Time{}
	return p
}
