package controller_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// reconcile runs one controller once on objects.
func reconcile(t *testing.T, name string, key object.Key, now time.Time, objects ...object.Object) controller.Result {
	t.Helper()
	res, err := controller.NamedController(name).Reconcile(memview.New(objects...), key, now)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestEndedPodsBeyondTheMost has the oldest of more than 12,500 ended pods go, and evicted ones before any other.
func TestEndedPodsBeyondTheMost(t *testing.T) {
	const most = 12500
	var all []object.Object
	for i := range most + 2 {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: fmt.Sprintf("p%05d", i), CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(i) * time.Second))}}
		p.Status.Phase = corev1.PodSucceeded
		if i == most {
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted"
		}
		all = append(all, p)
	}
	names := func(res controller.Result) (out []string) {
		for _, d := range res.Delete {
			out = append(out, d.Key.Name)
		}
		return out
	}
	key := object.Key{Resource: "pods"}
	if got, want := names(reconcile(t, "pod-garbage-collector", key, noon, all...)), []string{"p12500", "p00000"}; !slices.Equal(got, want) {
		t.Errorf("%v go, want %v", got, want)
	}
	if got := names(reconcile(t, "pod-garbage-collector", key, noon, all[:most]...)); len(got) > 0 {
		t.Errorf("of just as many as are kept %v go", got)
	}
}

// TestFinishedJobGoesInTheForeground: its pods go before it does.
func TestFinishedJobGoesInTheForeground(t *testing.T) {
	ttl := int32(60)
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "j"}, Spec: batchv1.JobSpec{TTLSecondsAfterFinished: &ttl},
		Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon)}}}}
	res := reconcile(t, "ttl-after-finished", object.KeyOf(j), noon.Add(time.Minute), j)
	if len(res.Delete) != 1 || res.Delete[0].PropagationPolicy != string(metav1.DeletePropagationForeground) {
		t.Errorf("%+v, want one deletion in the foreground", res.Delete)
	}
}

// TestElectionsAreNotMirrored: Endpoints that only hold a leader's name get no slice.
func TestElectionsAreNotMirrored(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "s"}}
	//nolint:staticcheck // mirroring is about the old kind
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "s", UID: "e"}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}}
	elects := ep.DeepCopy()
	elects.Annotations = map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}
	for _, c := range []struct {
		ep   object.Object
		want int
	}{{ep, 1}, {elects, 0}} {
		res := reconcile(t, "endpointslicemirroring", object.KeyOf(ep), noon, svc, c.ep)
		n := 0
		for _, o := range res.Put {
			if _, ok := o.(*discoveryv1.EndpointSlice); ok {
				n++
			}
		}
		if n != c.want {
			t.Errorf("with annotations %v: %d slices, want %d", c.ep.GetAnnotations(), n, c.want)
		}
	}
}

// TestNodePortsOfLoadBalancers counts the ports that a load balancer has on the nodes, unless it does without them.
func TestNodePortsOfLoadBalancers(t *testing.T) {
	no := false
	svc := func(name string, kind corev1.ServiceType, allocates *bool, ports ...int32) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: corev1.ServiceSpec{Type: kind, AllocateLoadBalancerNodePorts: allocates}}
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 80, NodePort: p})
		}
		return s
	}
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"services.nodeports": kresource.MustParse("9")}}}
	res := reconcile(t, "resourcequota", object.KeyOf(q), noon, q, svc("a", corev1.ServiceTypeNodePort, nil, 30001, 30002), svc("b", corev1.ServiceTypeLoadBalancer, nil, 30003),
		svc("c", corev1.ServiceTypeLoadBalancer, &no, 0, 30004), svc("d", corev1.ServiceTypeClusterIP, nil, 0))
	used := res.Put[0].(*corev1.ResourceQuota).Status.Used["services.nodeports"]
	if used.Value() != 4 {
		t.Errorf("%s ports are used, want 4", used.String())
	}
}

// TestQuotaLetsBe: what was over its limit before, and does not grow, may be changed; what grows may not.
func TestQuotaLetsBe(t *testing.T) {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"services.nodeports": kresource.MustParse("1")}}}
	svc := func(ports ...int32) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "s"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}}
		for _, p := range ports {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 80, NodePort: p})
		}
		return s
	}
	for _, c := range []struct {
		next    *corev1.Service
		refused bool
	}{{svc(1, 2), false}, {svc(3, 4), false}, {svc(1), false}, {svc(1, 2, 3), true}} {
		old := svc(1, 2)
		state := memview.New(q, old)
		check := controller.BeforeWrite(state, c.next, old, time.Now())
		state.Put(c.next)
		if err := check.After(state); (err != nil) != c.refused {
			t.Errorf("%d ports in place of two: %v, want refused %v", len(c.next.Spec.Ports), err, c.refused)
		}
	}
}

// TestForegroundWaitsForWhatBlocks: an owner waits for the dependents that say so, and for no others.
func TestForegroundWaitsForWhatBlocks(t *testing.T) {
	yes, no := true, false
	going := metav1.NewTime(noon)
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "o", UID: "o", DeletionTimestamp: &going, Finalizers: []string{metav1.FinalizerDeleteDependents}}}
	for _, c := range []struct {
		blocks *bool
		waits  bool
	}{{&yes, true}, {&no, false}, {nil, false}} {
		child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "c", UID: "c", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "ConfigMap", Name: "o", UID: "o", BlockOwnerDeletion: c.blocks}}}}
		res := reconcile(t, "garbagecollector", object.KeyOf(owner), noon, owner, child)
		released := slices.ContainsFunc(res.Put, func(o object.Object) bool { return o.GetName() == "o" && len(o.GetFinalizers()) == 0 })
		if released == c.waits || len(res.Delete) != 1 {
			t.Errorf("blocks %v: let go %v, deleted %v", c.blocks, released, res.Delete)
		}
	}
}

// TestTimeOfAForeignJob: a Job of the name that a time's Job would have, and that is not the CronJob's, is not taken for it.
func TestTimeOfAForeignJob(t *testing.T) {
	yes := true
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "c", UID: "cron", CreationTimestamp: metav1.NewTime(noon.Add(-30 * time.Second))},
		Spec: batchv1.CronJobSpec{Schedule: "* * * * *", ConcurrencyPolicy: batchv1.AllowConcurrent}}
	for _, c := range []struct {
		owner string
		taken bool
	}{{"cron", true}, {"other", false}} {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: fmt.Sprintf("c-%d", noon.Unix()/60), UID: "j", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "batch/v1", Kind: "CronJob", Name: "c", UID: "cron"}}}}
		job.OwnerReferences[0].UID, job.OwnerReferences[0].Controller = types.UID(c.owner), &yes
		res := reconcile(t, "cronjob", object.KeyOf(cron), noon.Add(10*time.Second), cron, job)
		for _, o := range res.Put {
			if made, isJob := o.(*batchv1.Job); isJob {
				t.Errorf("owned by %s: %s is made", c.owner, made.Name)
			}
			if got, ok := o.(*batchv1.CronJob); ok && (got.Status.LastScheduleTime != nil) != c.taken {
				t.Errorf("owned by %s: last scheduled %v", c.owner, got.Status.LastScheduleTime)
			}
		}
	}
}

// TestNewestDefaultClass gives a claim without a class the default one that was made last.
func TestNewestDefaultClass(t *testing.T) {
	class := func(name string, age time.Duration) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(noon.Add(-age)),
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}, Provisioner: "disks.example.org"}
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "c", UID: "c"}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}}
	for _, c := range []struct {
		a, b time.Duration
		want string
	}{{time.Hour, time.Minute, "b"}, {time.Minute, time.Hour, "a"}} {
		res := reconcile(t, "persistentvolume", object.KeyOf(claim), noon, claim, class("a", c.a), class("b", c.b))
		got := ""
		for _, o := range res.Put {
			if p, ok := o.(*corev1.PersistentVolumeClaim); ok && p.Spec.StorageClassName != nil {
				got = *p.Spec.StorageClassName
			}
		}
		if got != c.want {
			t.Errorf("of a (%s old) and b (%s old) the claim gets %q, want %s", c.a, c.b, got, c.want)
		}
	}
}

// TestGoingPodsAreNotHealthy: a budget does not count a pod that is being deleted, ready or not.
func TestGoingPodsAreNotHealthy(t *testing.T) {
	going := metav1.NewTime(noon)
	pod := func(name string, ready corev1.ConditionStatus, at *metav1.Time) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, Labels: map[string]string{"a": "b"}, DeletionTimestamp: at},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}}
	}
	one := intstr.FromInt32(1)
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}}
	res := reconcile(t, "disruption", object.KeyOf(b), noon, b, pod("stays", corev1.ConditionTrue, nil), pod("goes", corev1.ConditionTrue, &going), pod("sick", corev1.ConditionFalse, nil))
	if s := res.Put[0].(*policyv1.PodDisruptionBudget).Status; s.CurrentHealthy != 1 || s.DisruptionsAllowed != 0 || s.ExpectedPods != 3 {
		t.Errorf("healthy %d, allowed %d, expected %d; want 1, 0, 3", s.CurrentHealthy, s.DisruptionsAllowed, s.ExpectedPods)
	}
}

// TestOutOfServiceRemovesWhatWasGoing: a pod that was ready when its deletion began, and whose node was then lost for good, is removed with it.
func TestOutOfServiceRemovesWhatWasGoing(t *testing.T) {
	going := metav1.NewTime(noon.Add(-time.Hour))
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: metav1.NewTime(noon.Add(-2 * time.Hour))},
		Spec:   corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute, TimeAdded: &going}}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: going}}}}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "p", DeletionTimestamp: &going}, Spec: corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	res := reconcile(t, "node-lifecycle", object.KeyOf(n), noon, n, p)
	if len(res.Delete) != 1 || res.Delete[0].Key != object.KeyOf(p) || res.Delete[0].GracePeriodSeconds == nil || *res.Delete[0].GracePeriodSeconds != 0 {
		t.Errorf("%+v, want the pod removed at once", res.Delete)
	}
}
