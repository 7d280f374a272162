package controller

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// restarted is a pod whose containers and sidecar were restarted so often.
func restarted(containers, sidecar int32) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "side", RestartPolicy: &always}, {Name: "init"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{RestartCount: containers}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "side", RestartCount: sidecar}, {Name: "init", RestartCount: 99}}}}
}

// TestRestartsRank puts first what was restarted more often, by containers and then by sidecars.
func TestRestartsRank(t *testing.T) {
	for _, c := range []struct {
		a, b *corev1.Pod
		want int
	}{{restarted(2, 0), restarted(1, 9), -1}, {restarted(1, 9), restarted(2, 0), 1}, {restarted(1, 5), restarted(1, 2), -1}, {restarted(1, 2), restarted(1, 5), 1}, {restarted(1, 2), restarted(1, 2), 0}} {
		if got := compareRestarts(c.a, c.b); got != c.want {
			t.Errorf("%v against %v: %d, want %d", c.a.Status, c.b.Status, got, c.want)
		}
	}
}

// TestDeletionCost reads the cost as Kubernetes does: an int32, else 0.
func TestDeletionCost(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "5": 5, "-5": -5, "1000": 1000, "2147483647": 2147483647, "2147483648": 0, "many": 0} {
		if got := deletionCost(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.PodDeletionCost: text}}}); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// TestJobBackoff doubles from 10 s to 10 min.
func TestJobBackoff(t *testing.T) {
	last := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for failures, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 6: 320 * time.Second, 7: 10 * time.Minute, 1000: 10 * time.Minute} {
		if got := (jobBackoff{failures, last}).until().Sub(last); got != want {
			t.Errorf("after %d failures: %s, want %s", failures, got, want)
		}
	}
}

// TestFailurePolicyRules holds what matches a rule: no container that ended well, and a condition by its type and its status.
func TestFailurePolicyRules(t *testing.T) {
	ended := func(codes ...int32) *corev1.Pod {
		p := &corev1.Pod{}
		for _, code := range codes {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}})
		}
		return p
	}
	hit := func(status corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: status}}}}
	}
	but1 := batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
		Operator: batchv1.PodFailurePolicyOnExitCodesOpNotIn, Values: []int32{1}}}
	disrupted := batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}
	for _, c := range []struct {
		name string
		rule batchv1.PodFailurePolicyRule
		pod  *corev1.Pod
		want batchv1.PodFailurePolicyAction
	}{
		{"every code but 1, of 0 and 1", but1, ended(0, 1), batchv1.PodFailurePolicyActionCount},
		{"every code but 1, of 0 and 2", but1, ended(0, 2), batchv1.PodFailurePolicyActionFailJob},
		{"a condition that is true", disrupted, hit(corev1.ConditionTrue), batchv1.PodFailurePolicyActionIgnore},
		{"a condition that is false", disrupted, hit(corev1.ConditionFalse), batchv1.PodFailurePolicyActionCount},
	} {
		if got, _ := failurePolicy(&batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{c.rule}}, c.pod); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestSuccessCount asks for no more indexes than there are: a Job may have become smaller than its policy.
func TestSuccessCount(t *testing.T) {
	indexes, count := "0-3", int32(4)
	policy := &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &indexes, SucceededCount: &count}}}
	if _, met := successPolicy(policy, 2, parseIndexes("0-1", 2)); !met {
		t.Error("all two indexes have succeeded, and the rule is not met")
	}
	if _, met := successPolicy(policy, 4, parseIndexes("0-1", 4)); met {
		t.Error("two of four indexes have succeeded, and the rule is met")
	}
}

// TestDaemonBackoff doubles the wait of a node's failed pods up to 15 min, and forgets what is older than twice that.
func TestDaemonBackoff(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		had, ago, want time.Duration
		removed        bool
	}{
		{4 * time.Minute, 5 * time.Minute, 8 * time.Minute, true},
		{4 * time.Minute, 3 * time.Minute, 4 * time.Minute, false},
		{10 * time.Minute, 11 * time.Minute, 15 * time.Minute, true},
		{15 * time.Minute, 29 * time.Minute, 15 * time.Minute, true},
		{15 * time.Minute, 31 * time.Minute, time.Second, true},
	} {
		r := &daemonRun{now: now, live: &appsv1.DaemonSet{}, doomed: map[string]bool{}}
		r.failures.Nodes = map[string]daemonFailure{"n": {Wait: c.had, At: now.Add(-c.ago)}}
		r.replaceFailed(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, "n")
		if got := r.failures.Nodes["n"].Wait; got != c.want || r.doomed["p"] != c.removed {
			t.Errorf("waited %s, %s ago: the next wait is %s, removed %v; want %s, %v", c.had, c.ago, got, r.doomed["p"], c.want, c.removed)
		}
	}
}

// TestDaemonTolerations: the missing network is for those who do not need it.
func TestDaemonTolerations(t *testing.T) {
	for _, host := range []bool{true, false} {
		got := slices.ContainsFunc(daemonTolerations(host), func(o corev1.Toleration) bool { return o.Key == corev1.TaintNodeNetworkUnavailable })
		if got != host {
			t.Errorf("host network %v: tolerates a missing network %v", host, got)
		}
	}
}

// TestDaemonPairs removes a daemon's old pod beside a new one when that is available, or when the old one is of no use.
func TestDaemonPairs(t *testing.T) {
	pod := func(hash string, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: hash, Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: hash}},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}}
	}
	yes, no := corev1.ConditionTrue, corev1.ConditionFalse
	for _, c := range []struct {
		old, fresh corev1.ConditionStatus
		want       bool
	}{{yes, yes, true}, {yes, no, false}, {no, no, true}} {
		r := &daemonRun{live: &appsv1.DaemonSet{}, hash: "new", doomed: map[string]bool{}}
		r.prunePair([]*corev1.Pod{pod("old", c.old), pod("new", c.fresh)})
		if r.doomed["old"] != c.want || r.doomed["new"] {
			t.Errorf("old ready %s, new ready %s: removed %v, want the old one %v", c.old, c.fresh, r.doomed, c.want)
		}
	}
}

// TestForeignClaim leaves a claim that another controller has to that one.
func TestForeignClaim(t *testing.T) {
	yes, n := true, int32(1)
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", UID: "set"}, Spec: appsv1.StatefulSetSpec{Replicas: &n,
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
			WhenScaled: appsv1.RetainPersistentVolumeClaimRetentionPolicyType}}}
	for _, c := range []struct {
		controls *bool
		want     int
	}{{&yes, 1}, {nil, 2}} {
		r := &statefulRun{live: set, set: set}
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-db-0", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "example.org/v1", Kind: "Backup", Name: "b", UID: "b", Controller: c.controls}}}}
		got, foreign := r.claimOwners(claim, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "db-0", UID: "p"}})
		if len(got) != c.want || foreign != (c.controls != nil) {
			t.Errorf("controlled by another %v: the owners are %v, want %d of them, and foreign is %v", c.controls != nil, got, c.want, foreign)
		}
	}
}

// TestTolerationSeconds: of several tolerations of a taint the first holds.
func TestTolerationSeconds(t *testing.T) {
	taint := &corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute}
	tol := func(seconds ...int64) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "other", Operator: corev1.TolerationOpExists}}}}
		for i := range seconds {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds[i]})
		}
		return p
	}
	for _, c := range []struct {
		pod     *corev1.Pod
		seconds int64
	}{{tol(300, 10), 300}, {tol(10, 300), 10}, {tol(20), 20}} {
		if got, endless, tolerated := tolerationOf(c.pod, taint); got != c.seconds || endless || !tolerated {
			t.Errorf("%v: %d s, endless %v, tolerated %v; want %d s", c.pod.Spec.Tolerations, got, endless, tolerated, c.seconds)
		}
	}
	if _, _, tolerated := tolerationOf(tol(), taint); tolerated {
		t.Error("another taint's toleration is taken for this one's")
	}
}

// TestTargetPort finds a port by its name and protocol, among containers and sidecars.
func TestTargetPort(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
		{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolTCP}, {Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP}}}}}}
	for protocol, want := range map[corev1.Protocol]int32{corev1.ProtocolTCP: 53, corev1.ProtocolUDP: 5353} {
		if got, ok := targetPort(&corev1.ServicePort{TargetPort: intstr.FromString("dns"), Protocol: protocol}, p); !ok || got != want {
			t.Errorf("%s: %d, %v; want %d", protocol, got, ok, want)
		}
	}
	if got, ok := targetPort(&corev1.ServicePort{TargetPort: intstr.FromString("dns"), Protocol: corev1.ProtocolSCTP}, p); ok {
		t.Errorf("SCTP: %d", got)
	}
	always := corev1.ContainerRestartPolicyAlways
	web := func(name string, number int32, policy *corev1.ContainerRestartPolicy) corev1.Container {
		return corev1.Container{Name: name, RestartPolicy: policy, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: number, Protocol: corev1.ProtocolTCP}}}
	}
	p.Spec.InitContainers = []corev1.Container{web("init", 1, nil), web("side", 2, &always)}
	if got, ok := targetPort(&corev1.ServicePort{TargetPort: intstr.FromString("web"), Protocol: corev1.ProtocolTCP}, p); !ok || got != 2 {
		t.Errorf("of an init container and a sidecar: %d, %v; want the sidecar's", got, ok)
	}
}

// TestDaemonStrays: with a surge, an available pod on a node that its daemon is no longer meant for goes when enough others are available.
func TestDaemonStrays(t *testing.T) {
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	}
	for wanted, want := range map[int]bool{1: true, 2: false} {
		r := &daemonRun{live: &appsv1.DaemonSet{}, hash: "new", doomed: map[string]bool{}, nodes: []daemonNode{{name: "n1", runs: true, stays: true}, {name: "n2", stays: true}},
			pods: map[string][]*corev1.Pod{"n1": {pod("stays")}, "n2": {pod("stray")}}}
		r.updateBeside(0, wanted)
		if r.doomed["stray"] != want || r.doomed["stays"] {
			t.Errorf("%d wanted of two: removed %v, want the stray one %v", wanted, r.doomed, want)
		}
	}
}
