package object_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestSorts changes one thing about a pod at a time: what a count may ask for makes another sort, anything else does not, and SameSort never says that two
// sorts are one.
func TestSorts(t *testing.T) {
	cpu := func(n string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(n)}
	}
	has := func(requests, limits, allotted corev1.ResourceList) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Resources: &corev1.ResourceRequirements{Requests: requests, Limits: limits}, AllocatedResources: allotted}}
		}
	}
	elsewhere := corev1.PodAffinityTerm{Namespaces: []string{"blue"}}
	selected := corev1.PodAffinityTerm{NamespaceSelector: &metav1.LabelSelector{}}
	for name, c := range map[string]struct {
		change  func(*corev1.Pod)
		another bool
	}{
		"nothing":              {func(*corev1.Pod) {}, false},
		"a name":               {func(p *corev1.Pod) { p.Name = "q" }, false},
		"a label":              {func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, true},
		"a label that numbers": {func(p *corev1.Pod) { p.Labels = map[string]string{"apps.kubernetes.io/pod-index": "1"} }, false},
		"a request":            {func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = cpu("2") }, true},
		"an end":               {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, true},
		"a deadline":           {func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64) }, true},
		"it terminates":        {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(5, 0)} }, true},
		"a rule about its namespace": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{}}}}
		}, false},
		"with another namespace": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{elsewhere}}}
		}, true},
		"with selected namespaces": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: selected}}}}
		}, true},
		"against another namespace": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{elsewhere}}}
		}, true},
		"rather not with another": {func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{PodAffinityTerm: elsewhere}}}}
		}, true},
		"it has what it asks for":          {has(cpu("1"), cpu("2"), cpu("1000m")), false},
		"it has less":                      {has(cpu("500m"), cpu("2"), nil), true},
		"it was allotted more":             {has(cpu("1"), cpu("2"), cpu("2")), true},
		"its limit is another":             {has(cpu("1"), cpu("3"), nil), true},
		"its status says nothing about it": {func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c"}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := func() *corev1.Pod {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
				p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: cpu("1"), Limits: cpu("2")}
				return p
			}
			a, b := pod(), pod()
			c.change(b)
			if got := object.SortOf(a) != object.SortOf(b); got != c.another {
				t.Errorf("another sort: %v, want %v", got, c.another)
			}
			if c.another && (object.SameSort(a, b) || object.SameSort(b, a)) {
				t.Error("SameSort says that the two are one")
			}
		})
	}
	more, less := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	has(cpu("2"), nil, nil)(more)
	has(cpu("1"), nil, nil)(less)
	if object.SortOf(more) == object.SortOf(less) || object.SameSort(more, less) {
		t.Error("two pods that have different amounts for now are of one sort")
	}
	soon, late := more.DeepCopy(), more.DeepCopy()
	grace := int64(30)
	soon.DeletionTimestamp, late.DeletionTimestamp, late.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(5, 0)}, &metav1.Time{Time: time.Unix(5, 0)}, &grace
	soon.Status, late.Status = corev1.PodStatus{}, corev1.PodStatus{}
	if object.SortOf(soon) == object.SortOf(late) || object.SameSort(soon, late) {
		t.Error("two pods that are to be gone at different times are of one sort")
	}
	refused := more.DeepCopy()
	refused.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Reason: corev1.PodReasonInfeasible}}
	if object.SortOf(more) == object.SortOf(refused) || object.SameSort(more, refused) {
		t.Error("a pod whose change cannot be made is of the same sort as one that waits for it")
	}
}
