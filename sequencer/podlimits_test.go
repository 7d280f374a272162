package sequencer

import (
	"net/netip"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/raftstore"
)

func quantities(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func TestLimitRangeCompletesAndRefusesPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		r.must(write(Create, &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, DefaultRequest: quantities("100m", "50Mi"), Default: quantities("200m", "100Mi"), Min: quantities("50m", "10Mi"), Max: quantities("500m", "200Mi"),
			MaxLimitRequestRatio: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
		}}}}))
		p := r.must(write(Create, podOf("a", "150m"))).Objects[0].(*corev1.Pod)
		got := p.Spec.Containers[0].Resources
		for what, pair := range map[string][2]string{
			"requests.cpu": {got.Requests.Cpu().String(), "150m"}, "requests.memory": {got.Requests.Memory().String(), "50Mi"},
			"limits.cpu": {got.Limits.Cpu().String(), "200m"}, "limits.memory": {got.Limits.Memory().String(), "100Mi"},
			"class": {string(p.Status.QOSClass), "Burstable"},
			"note":  {p.Annotations["kubernetes.io/limit-ranger"], "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
			}
		}
		_, err := r.submit(write(Create, podOf("b", "20m")))
		refusedAs(t, err, `pods "b" is forbidden: [minimum cpu usage per Container is 50m, but request is 20m, cpu max limit to request ratio per Container is 4, but provided ratio is 10.000000]`)
		big := podOf("b", "1")
		big.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		_, err = r.submit(write(Create, big))
		refusedAs(t, err, `pods "b" is forbidden: maximum cpu usage per Container is 500m, but limit is 1`)
	})
}

func TestOneDefaultPriorityClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		class := func(name string) *schedulingv1.PriorityClass {
			return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: 3, GlobalDefault: true}
		}
		usual := r.must(write(Create, class("usual"))).Objects[0].(*schedulingv1.PriorityClass).DeepCopy()
		_, err := r.submit(write(Create, class("other")))
		refusedAs(t, err, `priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass usual is already marked as default. Only one default can exist`)
		usual.Description = "changed"
		r.must(write(Update, usual))
	})
}

// TestUpdateKeepsThePriority writes a pod whose manifest leaves out the number that its class gave it.
func TestUpdateKeepsThePriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		seven, never := int32(7), corev1.PreemptNever
		r.must(write(Create, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: seven, PreemptionPolicy: &never}))
		p := podOf("a", "")
		p.Spec.PriorityClassName, p.Spec.Priority, p.Spec.PreemptionPolicy = "high", &seven, &never
		again := r.must(write(Create, p)).Objects[0].(*corev1.Pod).DeepCopy()
		again.Spec.Priority, again.Spec.PreemptionPolicy = nil, nil
		if got := r.must(write(Update, again)).Objects[0].(*corev1.Pod).Spec; got.Priority == nil || *got.Priority != 7 || got.PreemptionPolicy == nil || *got.PreemptionPolicy != never {
			t.Errorf("after the update the priority is %v, the policy %v", got.Priority, got.PreemptionPolicy)
		}
	})
}

// TestPodsOfControllersAreCompleted has a replica set make its pods in a namespace with a LimitRange.
func TestPodsOfControllersAreCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), func(c *Config) {
			set, err := controller.NewSet(controller.Config{ClusterID: "test", ServiceRange: c.Ranges.Services, PodRange: netip.MustParsePrefix("10.244.0.0/16"), AdmitPod: admission.AdmitPod[controller.View]})
			if err != nil {
				t.Fatal(err)
			}
			c.Settler, c.Admit = Controllers{set}, admission.Complete
		})
		defer r.stop()
		r.must(write(Create, &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, DefaultRequest: quantities("100m", "50Mi")}}}}))
		p := podOf("x", "")
		n := int32(1)
		rc := &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "rc"}, Spec: corev1.ReplicationControllerSpec{Replicas: &n,
			Selector: map[string]string{"a": "b"}, Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: p.Spec}}}
		res := r.must(write(Create, rc))
		for _, ch := range res.Outcome.Written {
			if made, ok := ch.New.(*corev1.Pod); ok {
				if cpu := made.Spec.Containers[0].Resources.Requests.Cpu().String(); cpu != "100m" || made.Status.QOSClass != corev1.PodQOSBurstable {
					t.Errorf("the pod requests %s and is %s", cpu, made.Status.QOSClass)
				}
				return
			}
		}
		t.Fatal("no pod was made")
	})
}
