package scheduler

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"reconcile/object"
)

// TestWaitingIsTriedInTime: to try only the pods that something may have helped places, nominates and evicts as to try all of them each time.
func TestWaitingIsTriedInTime(t *testing.T) {
	left, all := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{objects: map[object.Key]object.Object{}, usage: map[object.Key]object.Usage{}}
		var k Kept
		for i := range rapid.IntRange(2, 4).Draw(rt, "nodes") {
			w.node(rt, fmt.Sprintf("n%d", i))
		}
		busy := rapid.IntRange(1, 6).Draw(rt, "busy")
		for range rapid.IntRange(2, 16).Draw(rt, "rounds") {
			for range rapid.IntRange(0, busy).Draw(rt, "changes") {
				w.change(rt)
			}
			profiles := Profiles{corev1.DefaultSchedulerName: DefaultProfile()}
			profiles[corev1.DefaultSchedulerName].HardPodAffinityWeight = rapid.SampledFrom([]int64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2}).Draw(rt, "profile")
			kept := k.Bring(w, profiles, w.changed)
			w.changed = nil
			if rapid.IntRange(0, 9).Draw(rt, "read anew") == 0 {
				kept.wear = minWear + 1
			}
			want := NewSnapshotFor(w, profiles).ScheduleWaiting(nil)
			got := kept.ScheduleWaiting(nil)
			if rapid.IntRange(0, 19).Draw(rt, "panic") > 0 {
				k.Done()
			}
			all, left = all+len(want), left+len(want)-len(got)
			if a, b := effects(got), effects(want); !slices.Equal(a, b) {
				rt.Fatalf("with those that something may have helped:\n%v\nwith all:\n%v", a, b)
			}
			for _, d := range want {
				if d.Node == "" && !Told(d.Pod) && !slices.ContainsFunc(got, func(e Decision) bool { return e.Pod == d.Pod && e.Message == d.Message }) {
					rt.Fatalf("%s is not told: %s", d.Pod.Name, d.Message)
				}
			}
			w.tell(rt, got)
		}
	})
	t.Logf("of %d decisions %d were left out", all, left)
	if left == 0 {
		t.Error("no pod was ever left out")
	}
}

// effects are what decisions come to, in order.
func effects(list []Decision) (out []string) {
	for _, d := range list {
		text := ""
		had := d.Pod.Status.NominatedNodeName
		switch {
		case d.Node != "":
			text += " on " + d.Node
		case d.Nominated != "" && d.Nominated != had:
			text += " nominated to " + d.Nominated
		case d.Nominated == "" && d.Unnominate && had != "":
			text += " nominated no more"
		}
		for _, v := range d.Victims {
			if v.DeletionTimestamp == nil {
				text += " without " + v.Name
			}
		}
		for _, q := range d.Unnominated {
			text += " passes " + q.Name
		}
		if text != "" {
			out = append(out, d.Pod.Name+text)
		}
	}
	return out
}

// tell writes what was decided, as package controller does, but for what is lost.
func (w *world) tell(rt *rapid.T, list []Decision) {
	now := metav1.Unix(1_000_000, 0)
	if rapid.IntRange(0, 9).Draw(rt, "all lost") == 0 {
		return
	}
	for _, d := range list {
		if rapid.IntRange(0, 9).Draw(rt, "lost") == 0 {
			continue
		}
		o, ok := w.Get(object.KeyOf(d.Pod))
		if !ok {
			continue
		}
		p := o.(*corev1.Pod).DeepCopy()
		p.Spec.NodeName = d.Node
		if p.Status.NominatedNodeName = ""; d.Node == "" {
			switch {
			case d.Nominated != "":
				p.Status.NominatedNodeName = d.Nominated
			case !d.Unnominate:
				p.Status.NominatedNodeName = d.Pod.Status.NominatedNodeName
			}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: d.Message}}
		}
		w.put(p)
		for _, v := range d.Victims {
			if o, ok := w.Get(object.KeyOf(v)); ok {
				v = o.(*corev1.Pod).DeepCopy()
				v.DeletionTimestamp = &now
				if rapid.Bool().Draw(rt, "marked") {
					v.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
				}
				w.put(v)
			}
		}
		for _, v := range d.Unnominated {
			if o, ok := w.Get(object.KeyOf(v)); ok {
				v = o.(*corev1.Pod).DeepCopy()
				v.Status.NominatedNodeName = ""
				w.put(v)
			}
		}
	}
}
