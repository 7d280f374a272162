package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestGoesForAnother: a terminating pod goes for another one only if a preemption deleted it.
func TestGoesForAnother(t *testing.T) {
	condition := func(kind corev1.PodConditionType, status corev1.ConditionStatus, reason string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{}}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: kind, Status: status, Reason: reason}}}}
	}
	stays := condition(corev1.DisruptionTarget, corev1.ConditionTrue, corev1.PodReasonPreemptionByScheduler)
	stays.DeletionTimestamp = nil
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		want bool
	}{
		{"preempted", condition(corev1.DisruptionTarget, corev1.ConditionTrue, corev1.PodReasonPreemptionByScheduler), true},
		{"evicted", condition(corev1.DisruptionTarget, corev1.ConditionTrue, "EvictionByEvictionAPI"), false},
		{"not so after all", condition(corev1.DisruptionTarget, corev1.ConditionFalse, corev1.PodReasonPreemptionByScheduler), false},
		{"of another condition", condition(corev1.PodScheduled, corev1.ConditionTrue, corev1.PodReasonPreemptionByScheduler), false},
		{"not deleted", stays, false},
	} {
		if got := goesForAnother(c.pod); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestWithoutLeavesDaemons: a daemon's pod does not go elsewhere, and what bears every taint does not stay.
func TestWithoutLeavesDaemons(t *testing.T) {
	daemon, bears, far := pod("daemon", 0, "100m", ""), pod("bears", 0, "100m", ""), pod("far", 0, "3", "")
	daemon.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}}}}}}}
	bears.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	daemon.Spec.NodeName, bears.Spec.NodeName, far.Spec.NodeName = "n1", "n1", "n2"
	out := NewSnapshot(&cluster{nodes: []*corev1.Node{node("n1", "4", "8Gi", 10), node("n2", "4", "8Gi", 10)}, pods: []*corev1.Pod{daemon, bears, far}}).Without("n1")
	if len(out) != 1 || out[0].Pod.Name != "bears0" || out[0].Node != "n2" {
		t.Errorf("%+v, want bears0 alone, on n2", out)
	}
}
