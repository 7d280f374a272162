package controller_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// TestEndedPodsAreLimited: of ended pods the cluster keeps 12,500; of those beyond, evicted ones go first, then the oldest. What runs does not count.
func TestEndedPodsAreLimited(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := memview.New()
	put := func(name string, age time.Duration, phase corev1.PodPhase, reason string) {
		s.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, CreationTimestamp: metav1.NewTime(now.Add(-age))}, Status: corev1.PodStatus{Phase: phase, Reason: reason}})
	}
	for i := range 12500 {
		put(fmt.Sprintf("p%05d", i), time.Hour+time.Duration(i)*time.Second, corev1.PodSucceeded, "")
	}
	put("runs", 1000*time.Hour, corev1.PodRunning, "")
	look := func() string {
		res, err := controller.NamedController("pod-garbage-collector").Reconcile(s, object.Key{Resource: "pods"}, now)
		if err != nil {
			t.Fatal(err)
		}
		var gone []string
		for _, d := range res.Delete {
			gone = append(gone, d.Key.Name)
		}
		return strings.Join(gone, " ")
	}
	if got := look(); got != "" {
		t.Errorf("of 12,500 went %s", got)
	}
	put("failed", time.Minute, corev1.PodFailed, "")
	put("evicted", time.Second, corev1.PodFailed, "Evicted")
	put("another", time.Minute, corev1.PodSucceeded, "")
	if got := look(); got != "evicted p12499 p12498" {
		t.Errorf("of 12,503 went %s", got)
	}
}

// TestNodesWithoutNetwork: where the pods' range is used up a node stays without a network and says so; it gets the one that another gives back.
func TestNodesWithoutNetwork(t *testing.T) {
	cfg := config()
	cfg.PodRange = netip.MustParsePrefix("10.244.0.0/23")
	w := newWorld(t)
	set, err := controller.NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.set = set
	for _, name := range []string{"a", "b", "c"} {
		w.node(name, "1", "1Gi", nil)
	}
	w.settle()
	networks := func() string {
		var out []string
		for o := range w.state.List("nodes", "") {
			out = append(out, o.GetName()+" "+o.(*corev1.Node).Spec.PodCIDR)
		}
		return strings.Join(out, ", ")
	}
	if got, want := networks(), "a 10.244.0.0/24, b 10.244.1.0/24, c "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	told := slices.ContainsFunc(slices.Collect(w.state.List("events", "default")), func(o object.Object) bool {
		e := o.(*corev1.Event)
		return e.InvolvedObject.Name == "c" && e.Reason == "CIDRNotAvailable" && e.Type == corev1.EventTypeWarning && strings.HasPrefix(e.Message, "Node c status is now: CIDRNotAvailable")
	})
	if !told {
		t.Error("c does not say that it has none")
	}
	w.state.Delete(object.Key{Resource: "nodes", Name: "a"})
	w.settle()
	if got, want := networks(), "b 10.244.1.0/24, c 10.244.0.0/24"; got != want {
		t.Errorf("after a went: %s, want %s", got, want)
	}
}

// TestStatefulSetCountsWhatItDeletes: the status that a run writes no longer counts the pod that the same run deletes, as Kubernetes' does not.
func TestStatefulSetCountsWhatItDeletes(t *testing.T) {
	w := withOne(t, `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: v1}]}
`)
	w.kubelet(3)
	w.settle()
	key := object.Key{Resource: "statefulsets", Namespace: "default", Name: "db"}
	o, _ := w.state.Get(key)
	set := object.Copy(o).(*appsv1.StatefulSet)
	set.Generation++
	set.Spec.Template.Spec.Containers[0].Image = "v2"
	w.state.Put(set)
	res, err := controller.NamedController("statefulset").Reconcile(w.state, key, w.now)
	if err != nil || len(res.Delete) != 1 {
		t.Fatalf("%d deletions (%v), want the last pod's", len(res.Delete), err)
	}
	for _, o := range res.Put {
		if set, ok := o.(*appsv1.StatefulSet); ok && set.Status.CurrentReplicas != 2 {
			t.Errorf("%d pods of the current revision, want 2: one is deleted", set.Status.CurrentReplicas)
		}
	}
}

// TestNominationIsTakenOver: a pod that was nominated to a node is so no longer when one of a higher priority is nominated to its room.
func TestNominationIsTakenOver(t *testing.T) {
	w := newWorld(t)
	w.node("n1", "2", "8Gi", nil)
	pod := func(name string, priority int) {
		t.Helper()
		if err := w.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {priority: %d, terminationGracePeriodSeconds: 30, containers: [{name: c, image: v1, resources: {requests: {cpu: "2"}}}]}
`, name, priority)); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	pod("victim", 1)
	w.kubelet(1)
	w.settle()
	nominated := func(name string) string {
		o, _ := w.state.Get(object.Key{Resource: "pods", Namespace: "default", Name: name})
		return o.(*corev1.Pod).Status.NominatedNodeName
	}
	pod("middle", 100)
	if got := nominated("middle"); got != "n1" {
		t.Fatalf("the first that waits is nominated to %q", got)
	}
	pod("high", 1000)
	if got := nominated("high") + " " + nominated("middle"); got != "n1 " {
		t.Errorf("the pods of high and middle priority are nominated to %q, want only the first, to n1", got)
	}
}

// TestManyPodsAreOneRun: of a service's pods that change at once each is looked at by itself if they are few, and all in one run if they are many.
func TestManyPodsAreOneRun(t *testing.T) {
	for _, c := range []struct{ pods, runs int }{{3, 3}, {8, 8}, {9, 1}, {30, 1}} {
		set, err := controller.NewSet(config())
		if err != nil {
			t.Fatal(err)
		}
		s := memview.New()
		for _, o := range crowdObjects(false, intstr.FromInt32(80)) {
			s.Put(o)
		}
		for i := range 40 {
			s.Put(podAt(fmt.Sprintf("p%02d", i), "u", 40))
		}
		settleAt(set, s, set.Resync(s)...)
		for i := range c.pods {
			p := podAt(fmt.Sprintf("p%02d", i), "u", 40)
			p.Status.Conditions[0].Status = corev1.ConditionFalse
			s.Put(p)
		}
		changes := s.TakeChanges()
		runs := controller.CountRuns(set, "endpoints")
		controller.Settle(set, s, set.Triggers(s, changes), time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), 1<<20, admission.Complete)
		if *runs != c.runs {
			t.Errorf("%d pods: %d runs, want %d", c.pods, *runs, c.runs)
		}
	}
}
