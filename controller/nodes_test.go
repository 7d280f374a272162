package controller_test

import (
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/object"
)

// oldNode is a node that has been there for long, with conditions as NAME=STATUS, all of which began long ago.
func oldNode(name string, conditions map[corev1.NodeConditionType]corev1.ConditionStatus, change func(*corev1.Node)) *corev1.Node {
	since := metav1.NewTime(noon.Add(-time.Hour))
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, CreationTimestamp: since}}
	for t, s := range conditions {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: t, Status: s, Reason: "Told", LastTransitionTime: since})
	}
	if change != nil {
		change(n)
	}
	return n
}

// leaseOf is a node's lease, renewed at a time.
func leaseOf(node string, at time.Time) *coordinationv1.Lease {
	renewed := metav1.NewMicroTime(at)
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node}, Spec: coordinationv1.LeaseSpec{RenewTime: &renewed}}
}

// nodeOf is what a run made of a node.
func nodeOf(t *testing.T, res controller.Result, name string) *corev1.Node {
	t.Helper()
	for _, o := range res.Put {
		if n, ok := o.(*corev1.Node); ok && n.Name == name {
			return n
		}
	}
	t.Fatalf("nothing is written of node %s", name)
	return nil
}

func nodeSaid(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	i := slices.IndexFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
	if i < 0 {
		return corev1.NodeCondition{}
	}
	return n.Status.Conditions[i]
}

func taints(n *corev1.Node) (out []string) {
	for _, t := range n.Spec.Taints {
		out = append(out, t.Key+":"+string(t.Effect))
	}
	slices.Sort(out)
	return out
}

type said = map[corev1.NodeConditionType]corev1.ConditionStatus

// TestTaintsFollowConditions: each condition of a node that is heard has its taint, and no other.
func TestTaintsFollowConditions(t *testing.T) {
	for kind, want := range map[corev1.NodeConditionType]string{
		corev1.NodeMemoryPressure: corev1.TaintNodeMemoryPressure, corev1.NodeDiskPressure: corev1.TaintNodeDiskPressure, corev1.NodePIDPressure: corev1.TaintNodePIDPressure,
		corev1.NodeNetworkUnavailable: corev1.TaintNodeNetworkUnavailable,
	} {
		n := oldNode("n", said{corev1.NodeReady: corev1.ConditionTrue, kind: corev1.ConditionTrue}, nil)
		got := taints(nodeOf(t, reconcile(t, "node-lifecycle", object.KeyOf(n), noon, n, leaseOf("n", noon)), "n"))
		if !slices.Equal(got, []string{want + ":NoSchedule"}) {
			t.Errorf("%s: taints %v, want %s", kind, got, want)
		}
	}
	closed := oldNode("n", said{corev1.NodeReady: corev1.ConditionTrue}, func(n *corev1.Node) { n.Spec.Unschedulable = true })
	if got := taints(nodeOf(t, reconcile(t, "node-lifecycle", object.KeyOf(closed), noon, closed, leaseOf("n", noon)), "n")); !slices.Equal(got, []string{corev1.TaintNodeUnschedulable + ":NoSchedule"}) {
		t.Errorf("a node that is closed has the taints %v", got)
	}
}

// TestSilenceBeginsNow: what is said of a node that was not heard for 40 s holds from now on, by which the pace of eviction goes; a renewal from the
// future is none.
func TestSilenceBeginsNow(t *testing.T) {
	n := oldNode("n", said{corev1.NodeReady: corev1.ConditionTrue, corev1.NodeDiskPressure: corev1.ConditionFalse}, nil)
	for what, at := range map[string]time.Time{"silent": noon.Add(-41 * time.Second), "renewed in the future": noon.Add(time.Hour)} {
		got := nodeOf(t, reconcile(t, "node-lifecycle", object.KeyOf(n), noon, n, leaseOf("n", at)), "n")
		for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeDiskPressure} {
			if c := nodeSaid(got, kind); c.Status != corev1.ConditionUnknown || !c.LastTransitionTime.Time.Equal(noon) {
				t.Errorf("%s: %s is %s since %v, want Unknown since now", what, kind, c.Status, c.LastTransitionTime)
			}
		}
	}
}

// TestUnknownByTheAgentStays: a condition of which the agent itself says that it does not know it is not taken back when the node is heard.
func TestUnknownByTheAgentStays(t *testing.T) {
	n := oldNode("n", said{corev1.NodeReady: corev1.ConditionTrue, "Disks": corev1.ConditionUnknown}, nil)
	res := reconcile(t, "node-lifecycle", object.KeyOf(n), noon, n, leaseOf("n", noon))
	if c := nodeSaid(nodeOf(t, res, "n"), "Disks"); c.Status != corev1.ConditionUnknown || c.Reason != "Told" {
		t.Errorf("the condition is %+v", c)
	}
}

// TestWhoseZoneIsHealthy: nodes with the label exclude-disruption count on neither side, and a zone is one of a region. Three of four nodes of a zone are not
// ready: none is to be emptied. Where two of them do not count, or are of another region, one is.
func TestWhoseZoneIsHealthy(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.Node)
		told   int
	}{
		{"three of four", func(*corev1.Node) {}, 0},
		{"two do not count", func(n *corev1.Node) { n.Labels["node.kubernetes.io/exclude-disruption"] = "" }, 1},
		{"two are of another region", func(n *corev1.Node) { n.Labels[corev1.LabelTopologyRegion] = "west" }, 2},
		{"two are of another zone", func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "b" }, 2},
	} {
		all := []object.Object{oldNode("ready", said{corev1.NodeReady: corev1.ConditionTrue}, nil), oldNode("lost1", said{corev1.NodeReady: corev1.ConditionUnknown}, nil)}
		for _, name := range []string{"lost2", "lost3"} {
			all = append(all, oldNode(name, said{corev1.NodeReady: corev1.ConditionUnknown}, c.change))
		}
		if got := len(reconcile(t, "node-eviction", object.Key{Resource: "nodes"}, noon, all...).Put); got != c.told {
			t.Errorf("%s: %d are told to be emptied, want %d", c.name, got, c.told)
		}
	}
	going := oldNode("going", said{corev1.NodeReady: corev1.ConditionUnknown}, func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: noon} })
	ready := oldNode("ready", said{corev1.NodeReady: corev1.ConditionTrue}, nil)
	if got := reconcile(t, "node-eviction", object.Key{Resource: "nodes"}, noon, going, ready).Put; len(got) != 0 {
		t.Errorf("a node that is being deleted is told to be emptied: %v", got)
	}
}

// TestNamespaceConditionsKeepTheirTime: a condition that stays what it is keeps the time of its transition.
func TestNamespaceConditionsKeepTheirTime(t *testing.T) {
	began := metav1.NewTime(noon)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x", DeletionTimestamp: &began}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p", Finalizers: []string{"example.com/held"}, DeletionTimestamp: &began}}
	at := func(o object.Object, kind corev1.NamespaceConditionType) (corev1.ConditionStatus, time.Time) {
		for _, c := range o.(*corev1.Namespace).Status.Conditions {
			if c.Type == kind {
				return c.Status, c.LastTransitionTime.Time
			}
		}
		return "", time.Time{}
	}
	first := reconcile(t, "namespace", object.KeyOf(ns), noon, ns, p).Put[0]
	second := reconcile(t, "namespace", object.KeyOf(ns), noon.Add(time.Minute), first, p).Put[0]
	if s, since := at(second, corev1.NamespaceContentRemaining); s != corev1.ConditionTrue || !since.Equal(noon) {
		t.Errorf("what remains is %s since %v, want True since the beginning", s, since)
	}
	third := reconcile(t, "namespace", object.KeyOf(ns), noon.Add(2*time.Minute), second).Put[0]
	if s, since := at(third, corev1.NamespaceContentRemaining); s != corev1.ConditionFalse || !since.Equal(noon.Add(2*time.Minute)) {
		t.Errorf("what remains is %s since %v, want False since then", s, since)
	}
}

// TestPodsThatGoFollowALostNode: a pod that is going already when its node is lost is not ready either, so that nobody is sent to it.
func TestPodsThatGoFollowALostNode(t *testing.T) {
	n := oldNode("n", said{corev1.NodeReady: corev1.ConditionTrue}, nil)
	grace, going := int64(30), metav1.NewTime(noon)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "p", CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour)), DeletionTimestamp: &going, DeletionGracePeriodSeconds: &grace},
		Spec: onePod, Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	p.Spec.NodeName = "n"
	res := reconcile(t, "node-lifecycle", object.KeyOf(n), noon, n, p, leaseOf("n", noon.Add(-41*time.Second)))
	for _, o := range res.Put {
		if got, ok := o.(*corev1.Pod); ok && got.Status.Conditions[0].Status == corev1.ConditionFalse && len(res.Delete) == 0 {
			return
		}
	}
	t.Errorf("%v is written, want the pod, not ready", res.Put)
}
