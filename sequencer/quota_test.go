package sequencer

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/raftstore"
)

func quota(name string, hard map[corev1.ResourceName]string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}}
	q.Spec.Hard = corev1.ResourceList{}
	for n, v := range hard {
		q.Spec.Hard[n] = resource.MustParse(v)
	}
	return q
}

func podOf(name, cpu string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if cpu != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	return p
}

// refusedAs fails the test if the write was not Forbidden for the reason.
func refusedAs(t *testing.T, err error, why string) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.HasSuffix(err.Error(), why) {
		t.Errorf("answered %v, want Forbidden: %s", err, why)
	}
}

func TestQuotaRefusesWhatIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		r.must(write(Create, quota("q", map[corev1.ResourceName]string{"pods": "2", "requests.cpu": "1", "services.nodeports": "1", "count/configmaps": "1"})))

		_, err := r.submit(write(Create, podOf("a", "")))
		refusedAs(t, err, `pods "a" is forbidden: failed quota: q: must specify requests.cpu for: c`)
		r.must(write(Create, podOf("a", "600m")))
		_, err = r.submit(write(Create, podOf("b", "500m")))
		refusedAs(t, err, `pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1`)
		r.must(write(Create, podOf("b", "400m")))
		_, err = r.submit(write(Create, podOf("c", "0")))
		refusedAs(t, err, `pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`)

		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "s"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: "a", Port: 1}, {Name: "b", Port: 2}}}}
		svc = r.must(write(Create, svc)).Objects[0].(*corev1.Service).DeepCopy()
		svc.Spec.Type = corev1.ServiceTypeNodePort
		_, err = r.submit(write(Update, svc))
		refusedAs(t, err, `services "s" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1`)

		// What is over its limit already may be changed, and go.
		q, _ := r.get("resourcequotas", "q")
		lower := q.(*corev1.ResourceQuota).DeepCopy()
		lower.Spec.Hard["pods"] = resource.MustParse("1")
		r.must(write(Update, lower))
		a, _ := r.get("pods", "a")
		labelled := a.(*corev1.Pod).DeepCopy()
		labelled.Labels = map[string]string{"x": "y"}
		r.must(write(Update, labelled))
		r.must(Op{Verb: Delete, Key: write(Delete, labelled).Key})
	})
}

// TestQuotaHoldsForRequestsOfOneEntry writes at once what is too much together: exactly one may succeed.
func TestQuotaHoldsForRequestsOfOneEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		r.must(write(Create, quota("q", map[corev1.ResourceName]string{"configmaps": "1"})))
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { _, errs[i] = r.submit(write(Create, configMap(string(rune('a'+i)), "1"))) })
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else if !apierrors.IsForbidden(err) {
				t.Errorf("answered %v", err)
			}
		}
		if made != 1 {
			t.Errorf("%d of 8 were made, and the quota is 1", made)
		}
	})
}
