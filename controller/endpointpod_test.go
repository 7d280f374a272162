package controller_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// TestPodByPodIsAsFromScratch: however a namespace's pods come, change and go, one or many at once, a service's slices and Endpoints, a budget's status and a
// quota's are in the end what they are where everything is looked at anew, and to look at all of it once more changes nothing.
func TestPodByPodIsAsFromScratch(t *testing.T) {
	set, err := controller.NewSet(config())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := memview.New()
		for _, o := range crowdObjects(rapid.Bool().Draw(t, "publish"), rapid.SampledFrom([]intstr.IntOrString{intstr.FromInt32(80), intstr.FromString("http")}).Draw(t, "port")) {
			s.Put(o)
		}
		settleAt(set, s, set.Resync(s)...)
		many := rapid.IntRange(0, 8).Draw(t, "many") == 0 // with more than one slice
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			for range rapid.IntRange(1, map[bool]int{false: 12, true: 220}[many]).Draw(t, "pods at once") {
				changePod(t, s, map[bool]int{false: 14, true: 260}[many])
			}
			settleAt(set, s)
		}
		incremental := seen(s)
		if written := settleAt(set, s, set.Resync(s)...); len(written) != 0 {
			t.Fatalf("to look at everything once more writes %v:\n%s", written, cmp.Diff(incremental, seen(s)))
		}
		fresh := memview.New()
		for o := range s.List("pods", "") {
			fresh.Put(o)
		}
		for _, r := range []string{"namespaces", "nodes", "services"} {
			for o := range s.List(r, "") {
				fresh.Put(o)
			}
		}
		for _, o := range crowdObjects(false, intstr.IntOrString{}) {
			if _, there := fresh.Get(object.KeyOf(o)); !there {
				fresh.Put(o)
			}
		}
		settleAt(set, fresh, set.Resync(fresh)...)
		if got := seen(fresh); got != incremental {
			t.Fatalf("from scratch (-) and step by step (+):\n%s", cmp.Diff(got, incremental))
		}
	})
}

// settleAt settles what changed, and what an entry could not do in the next ones, and tells what was written.
func settleAt(set *controller.Set, s *memview.State, more ...controller.Trigger) (written []string) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for round := 0; ; round++ {
		triggers := append(set.Triggers(s, s.TakeChanges()), more...)
		if len(triggers) == 0 || round > 9 {
			return written
		}
		out := controller.Settle(set, s, triggers, now, 1<<20, admission.Complete)
		for _, ch := range s.TakeChanges() {
			written = append(written, ch.Key.String())
		}
		more = out.Leftover
		for _, w := range out.Wakes {
			if !w.At.After(now) {
				more = append(more, w.Trigger)
			}
		}
	}
}

// crowdObjects are what looks at the pods of a namespace.
func crowdObjects(publish bool, port intstr.IntOrString) []object.Object {
	meta := metav1.ObjectMeta{Namespace: "d", Name: "web", UID: "web"}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, PublishNotReadyAddresses: publish, ClusterIP: "None",
		Ports: []corev1.ServicePort{{Port: 80, TargetPort: port}}}}
	admission.Default(svc)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &intstr.IntOrString{IntVal: 3}, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	quota := &corev1.ResourceQuota{ObjectMeta: meta, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("1k"), "requests.cpu": resource.MustParse("1k"), "limits.memory": resource.MustParse("1Ti")}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z"}, CreationTimestamp: metav1.NewTime(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	return []object.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "d", UID: "d"}}, node, svc, budget, quota}
}

// changePod makes, changes or removes one of n pods.
func changePod(t *rapid.T, s *memview.State, n int) {
	name := fmt.Sprintf("p%03d", rapid.IntRange(0, n-1).Draw(t, "pod"))
	key := object.Key{Resource: "pods", Namespace: "d", Name: name}
	had, there := s.Get(key)
	draw := func(what string, of int) bool { return rapid.IntRange(0, of).Draw(t, what) == 0 }
	if there && draw("gone", 5) {
		s.Delete(key)
		return
	}
	p := podAt(name, types.UID(fmt.Sprint(name, s.Rev())), n)
	if there {
		p.UID = had.GetUID()
	}
	if draw("other", 6) {
		p.Labels["app"] = "other"
	}
	if draw("no address", 6) {
		p.Status.PodIP = ""
	}
	if draw("host's address", 6) {
		p.Status.PodIP = "192.0.2.1"
	}
	if draw("not ready", 2) {
		p.Status.Conditions[0].Status = corev1.ConditionFalse
	}
	if draw("ended", 9) {
		p.Status.Phase = corev1.PodSucceeded
	}
	if draw("terminating", 6) {
		grace := int64(30)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1e9, 0)}, &grace
	}
	if draw("more", 3) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("700m")
		p.Generation++
	}
	s.Put(p)
}

// podAt is a pod that is ready at n1, with an address of its own.
func podAt(name string, uid types.UID, n int) *corev1.Pod {
	var number int
	if _, err := fmt.Sscanf(name, "p%d", &number); err != nil {
		panic(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, UID: uid, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "x", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolTCP}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.1.%d.%d", (n-number)/200, (n-number)%200), QOSClass: corev1.PodQOSBurstable,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	switch number % 5 { // a pod's ports do not change
	case 1:
		p.Spec.Containers[0].Ports[0].ContainerPort = 81
	case 2:
		p.Spec.Containers[0].Ports = nil
	}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return p
}

// seen is what the endpoints, the budget and the quota say.
func seen(s *memview.State) string {
	var all []string
	say := func(x ...any) {
		text, err := json.Marshal(x)
		if err != nil {
			panic(err)
		}
		all = append(all, string(text))
	}
	for o := range s.List("endpointslices", "d") {
		sl := o.(*discoveryv1.EndpointSlice)
		for _, e := range sl.Endpoints {
			say(e, sl.Ports)
		}
	}
	slices.Sort(all) // in which slice one is depends on what was before
	for o := range s.List("endpoints", "d") {
		say(o.(*corev1.Endpoints).Subsets, o.GetAnnotations())
	}
	for o := range s.List("poddisruptionbudgets", "d") {
		say(o.(*policyv1.PodDisruptionBudget).Status)
	}
	for o := range s.List("resourcequotas", "d") {
		say(o.(*corev1.ResourceQuota).Status)
	}
	return strings.Join(all, "\n")
}

// TestPodOfMoreThanThousandAddresses: of more than 1,000 pods the Endpoints object has the first by name, whichever of them changes.
func TestPodOfMoreThanThousandAddresses(t *testing.T) {
	set, err := controller.NewSet(config())
	if err != nil {
		t.Fatal(err)
	}
	s, n := memview.New(), 1003
	for _, o := range crowdObjects(false, intstr.FromInt32(80)) {
		s.Put(o)
	}
	for i := range n {
		s.Put(podAt(fmt.Sprintf("p%04d", i), types.UID(fmt.Sprint(i)), n))
	}
	settleAt(set, s, set.Resync(s)...)
	for _, i := range []int{1, 999, 1001, 500} {
		p := podAt(fmt.Sprintf("p%04d", i), types.UID(fmt.Sprint(i)), n)
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		for range 2 {
			s.Put(p)
			settleAt(set, s)
			had := seen(s)
			if written := settleAt(set, s, set.Resync(s)...); len(written) != 0 {
				t.Fatalf("after a change of pod %d, to look at everything once more writes %v:\n%s", i, written, cmp.Diff(had, seen(s)))
			}
			p = object.Copy(p)
			p.Status.PodIP = ""
		}
	}
	o, _ := s.Get(object.Key{Resource: "endpoints", Namespace: "d", Name: "web"})
	if sub := o.(*corev1.Endpoints).Subsets[0]; len(sub.Addresses)+len(sub.NotReadyAddresses) != 999 {
		t.Errorf("%d and %d addresses of the 999 pods that have one", len(sub.Addresses), len(sub.NotReadyAddresses))
	}
}
