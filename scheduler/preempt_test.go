package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// running is a pod on a node with a priority, which started so many minutes after noon.
func running(name, node, cpu string, priority int32, started int) *corev1.Pod {
	p := pod("", 0, cpu, "")
	p.Name, p.UID = name, types.UID(name)
	p.Labels = map[string]string{"app": strings.TrimRight(name, "0123456789")}
	p.Spec.NodeName, p.Spec.Priority = node, &priority
	p.Status.StartTime = &metav1.Time{Time: time.Date(2026, 11, 21, 12, started, 0, 0, time.UTC)}
	return p
}

func podNames(pods []*corev1.Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

// TestPreempt: who has to go, for whom, and what is said when nobody may.
func TestPreempt(t *testing.T) {
	never := corev1.PreemptNever
	high := func(cpu string, change func(*corev1.Pod)) *corev1.Pod {
		p := running("high", "", cpu, 100, 0)
		if change != nil {
			change(p)
		}
		return p
	}
	guard := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "guard", Namespace: "default"}}
	guard.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}}
	for _, tc := range []struct {
		name   string
		on     []*corev1.Pod
		more   []object.Object
		pod    *corev1.Pod
		node   string
		victim string
		says   string
	}{
		{name: "the lowest priority goes", on: []*corev1.Pod{running("a1", "n1", "2", 5, 0), running("b1", "n2", "2", 1, 0)}, pod: high("1", nil), node: "n2", victim: "b1"},
		{name: "as few as needed", on: []*corev1.Pod{running("a1", "n1", "1", 1, 0), running("a2", "n1", "1", 1, 1), running("b1", "n2", "2", 9, 0)}, pod: high("1", nil), node: "n1", victim: "a2"},
		{name: "not the equal", on: []*corev1.Pod{running("a1", "n1", "2", 100, 0), running("b1", "n2", "2", 100, 0)}, pod: high("1", nil),
			says: "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		{name: "nobody's going makes a node larger", on: []*corev1.Pod{running("a1", "n1", "2", 1, 0)}, pod: high("9", nil),
			says: "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		{name: "never", on: []*corev1.Pod{running("a1", "n1", "2", 1, 0), running("b1", "n2", "2", 1, 0)}, pod: high("1", func(p *corev1.Pod) { p.Spec.PreemptionPolicy = &never }),
			says: "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."},
		{name: "a budget protects", on: []*corev1.Pod{running("a1", "n1", "2", 50, 0), running("b1", "n2", "2", 1, 0)}, more: []object.Object{guard}, pod: high("1", nil), node: "n1", victim: "a1"},
		{name: "one that goes already is waited for", on: []*corev1.Pod{func() *corev1.Pod {
			p := running("a1", "n1", "2", 1, 0)
			p.DeletionTimestamp = &metav1.Time{}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
			return p
		}(), running("b1", "n2", "2", 100, 0)}, pod: high("1", func(p *corev1.Pod) { p.Status.NominatedNodeName = "n1" }),
			says: "0/2 nodes are available: 2 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &cluster{nodes: []*corev1.Node{node("n1", "2", "8Gi", 10), node("n2", "2", "8Gi", 10)}, pods: tc.on, more: tc.more}
			d := NewSnapshot(c).Schedule([]*corev1.Pod{tc.pod})[0]
			if d.Node != "" || d.Nominated != tc.node || podNames(d.Victims) != tc.victim || tc.says != "" && d.Message != tc.says {
				t.Errorf("node %q, nominated %q, victims %q: %s", d.Node, d.Nominated, podNames(d.Victims), d.Message)
			}
		})
	}
}

// TestPreemptMany: pods that come together take each their own victim, spend a budget once, and leave the room that others wait for alone.
func TestPreemptMany(t *testing.T) {
	c := &cluster{}
	for i := range 4 {
		name := fmt.Sprintf("n%d", i)
		c.nodes = append(c.nodes, node(name, "2", "8Gi", 10))
		c.pods = append(c.pods, running("a"+name, name, "2", 1, i))
	}
	guard := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "guard", Namespace: "default"}}
	guard.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "an"}}
	guard.Status.DisruptionsAllowed = 4
	c.more = append(c.more, guard)
	var pods []*corev1.Pod
	for i := range 4 {
		p := running(fmt.Sprintf("high%d", i), "", "2", 100, 0)
		p.Labels = map[string]string{"app": "high"}
		pods = append(pods, p)
	}
	low := running("low", "", "1", 0, 0)
	seen := map[string]bool{}
	for i, d := range NewSnapshot(c).Schedule(append(slices.Clone(pods), low)) {
		if i == 4 {
			if d.Node != "" || len(d.Victims) > 0 {
				t.Errorf("the low one takes room that others wait for: %+v", d)
			}
			continue
		}
		if len(d.Victims) != 1 || seen[d.Nominated] {
			t.Errorf("%s: nominated %q, victims %q: %s", d.Pod.Name, d.Nominated, podNames(d.Victims), d.Message)
		}
		seen[d.Nominated] = true
	}
}

// TestAdmit: a pod gets what its PriorityClass says, and its own values of matchLabelKeys, without a change to its template.
func TestAdmit(t *testing.T) {
	wait := corev1.PreemptNever
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, Value: 7, PreemptionPolicy: &wait}
	c := &cluster{more: []object.Object{class}}
	for _, tc := range []struct {
		class string
		given *int32
		want  int32
		err   string
	}{
		{class: "gold", want: 7}, {class: "system-node-critical", want: 2_000_001_000}, {class: ""}, {class: "lead", err: "no PriorityClass with name lead was found"},
		{class: "gold", given: new(int32), err: "must not be provided"},
	} {
		p := pod("", 0, "", "")
		p.Spec.PriorityClassName, p.Spec.Priority = tc.class, tc.given
		err := Admit(c, p)
		if (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) || err == nil && priorityOf(p) != tc.want {
			t.Errorf("%s: %v, priority %d", tc.class, err, priorityOf(p))
		}
		if tc.err != "" {
			continue
		}
		if p.Spec.Priority == nil || p.Spec.PreemptionPolicy == nil || never(&p.Spec) != (tc.class == "gold") {
			t.Errorf("class %q: priority %v, preemptionPolicy %v", tc.class, p.Spec.Priority, p.Spec.PreemptionPolicy)
		}
	}
	refused := pod("", 0, "", "")
	refused.Spec.PreemptionPolicy = &wait
	if err := Admit(c, refused); err == nil {
		t.Error("a pod without a class has a preemptionPolicy of its own")
	}
	class.GlobalDefault = true
	p := pod("", 0, "", "")
	p.Labels = map[string]string{"v": "2", "app": "x"}
	shared := &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		LabelSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"v", "none"}, MismatchLabelKeys: []string{"app"}}}}}
	p.Spec.Affinity = shared
	if err := Admit(c, p); err != nil || priorityOf(p) != 7 {
		t.Error(err, "the default class is not taken")
	}
	got := p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchExpressions
	if len(got) != 2 || got[0].Key != "v" || got[0].Operator != metav1.LabelSelectorOpIn || got[1].Key != "app" || got[1].Operator != metav1.LabelSelectorOpNotIn {
		t.Errorf("%+v", got)
	}
	if len(shared.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchExpressions) > 0 {
		t.Error("the template was changed")
	}
}
