package controller

import (
	"iter"
	"math"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestWarmsUp: after its first five minutes a pod that is not ready says nothing of what it will use only if it has never been ready, which is told by its
// condition being no younger than 30 s after its start.
func TestWarmsUp(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	for _, c := range []struct {
		name           string
		started, since time.Duration
		ready          corev1.ConditionStatus
		measured       time.Duration
		want           bool
	}{
		{"old, never ready", 10 * time.Minute, 10*time.Minute - 20*time.Second, corev1.ConditionFalse, 0, true},
		{"old, ready before", 10 * time.Minute, time.Minute, corev1.ConditionFalse, 0, false},
		{"old, ready", 10 * time.Minute, 10 * time.Minute, corev1.ConditionTrue, 0, false},
		{"young, not ready", time.Minute, 30 * time.Second, corev1.ConditionFalse, 0, true},
		{"young, ready, measured since", 4 * time.Minute, 3 * time.Minute, corev1.ConditionTrue, time.Minute, false},
		{"young, ready, measured before", 4 * time.Minute, time.Minute, corev1.ConditionTrue, 50 * time.Second, true},
	} {
		started := ago(c.started)
		p := &corev1.Pod{Status: corev1.PodStatus{StartTime: &started, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: c.ready, LastTransitionTime: ago(c.since)}}}}
		calc := calculation{now: now}
		if got := calc.warmsUp(p, sample{at: now.Add(-c.measured), window: 30 * time.Second}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestUnmeasuredPodsUseTheirTarget: where the target is above all that pods ask for, a pod that was not measured counts as using the target, not just what it
// asks for: else nine tenths of nothing known would make pods go.
func TestUnmeasuredPodsUseTheirTarget(t *testing.T) {
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: *quantityOf(100)}}}}
		return p
	}
	// Of 100 each, 10 are used of the one and the other is not measured: (10+150)/200 = 80 % of the 150 % wanted, so 2 × 0.53, rounded up, stay. With
	// 100 instead of 150 it would be 55 %, and one.
	c := calculation{pods: []*corev1.Pod{pod("a"), pod("b")}, current: 2, resource: corev1.ResourceMemory, percent: 150, up: usageTolerance, down: usageTolerance,
		samples: map[string]sample{"a": {value: 10 * 1000}}}
	if n, err := c.run(""); err != nil || n != 2 {
		t.Errorf("%d pods (%v), want 2", n, err)
	}
}

// TestSumIsBounded: a sum that no int64 holds is the nearest that one does, and what it passes on the way is of no account.
func TestSumIsBounded(t *testing.T) {
	for _, c := range []struct {
		values []int64
		want   int64
	}{
		{nil, 0},
		{[]int64{3, -1}, 2},
		{[]int64{math.MaxInt64, 1, -5}, math.MaxInt64 - 4},
		{[]int64{math.MinInt64, -1, 5}, math.MinInt64 + 4},
		{[]int64{math.MaxInt64, math.MaxInt64, -1}, math.MaxInt64},
		{[]int64{math.MinInt64, math.MinInt64, 1}, math.MinInt64},
	} {
		m := measured{samples: map[string]sample{}}
		for i, v := range c.values {
			m.samples[string(rune('a'+i))] = sample{value: v}
		}
		for range 50 { // a map's order differs from one loop to the next
			if got := m.sum(); got != c.want {
				t.Fatalf("the sum of %d is %d, want %d", c.values, got, c.want)
			}
		}
	}
}

// podsOnly is a view of pods that tell nothing of themselves.
type podsOnly struct {
	View
	pods []*corev1.Pod
}

func (podsOnly) Metric(object.Key, object.MetricQuery) (object.MetricValue, string, bool) {
	return object.MetricValue{}, "", false
}

func (v podsOnly) List(string, string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for _, p := range v.pods {
			if !yield(p) {
				return
			}
		}
	}
}

func (v podsOnly) Indexed(object.Row) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for _, p := range v.pods {
			if object.MayBeAsked(p) && !yield(p) {
				return
			}
		}
	}
}

// TestWhyNobodyIsAsked: that pods do not let themselves be asked is another thing than that those that do are not running.
func TestWhyNobodyIsAsked(t *testing.T) {
	pod := func(annotated bool, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "d"}, Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{Phase: phase}}
		if annotated {
			p.Annotations = map[string]string{object.AnnotationScrape: "true"}
		}
		return p
	}
	for _, c := range []struct {
		name           string
		pods           []*corev1.Pod
		ofPods, ofAnys string
	}{
		{"pods without", []*corev1.Pod{pod(false, corev1.PodRunning), pod(false, corev1.PodPending)},
			` (no pod of 2 has the annotation prometheus.io/scrape: "true")`, ` (no pod of namespace d has the annotation prometheus.io/scrape: "true")`},
		{"one waits", []*corev1.Pod{pod(false, corev1.PodRunning), pod(true, corev1.PodPending)},
			` (no pod of 1 with the annotation prometheus.io/scrape: "true" is running)`, ` (no pod of namespace d with the annotation prometheus.io/scrape: "true" is running)`},
		{"one runs", []*corev1.Pod{pod(true, corev1.PodRunning), pod(true, corev1.PodPending)}, "", ""},
		{"none", nil, "", ` (no pod of namespace d has the annotation prometheus.io/scrape: "true")`},
	} {
		s := scaling{v: podsOnly{pods: c.pods}, hpa: &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "d"}}}
		if got, err := s.of(object.MetricQuery{Name: "m"}, c.pods); err != nil || got.why != c.ofPods {
			t.Errorf("%s: %q (%v), want %q", c.name, got.why, err, c.ofPods)
		}
		if got, _ := s.external(object.MetricQuery{Name: "m"}); got.why != c.ofAnys {
			t.Errorf("%s, of a namespace: %q, want %q", c.name, got.why, c.ofAnys)
		}
	}
}
