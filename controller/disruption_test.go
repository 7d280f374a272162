package controller_test

import (
	"slices"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// TestForgottenEvictionsAreToldInOrder: Settle makes the same writes in the same order each time, also those about evictions that never began.
func TestForgottenEvictionsAreToldInOrder(t *testing.T) {
	set, err := controller.NewSet(config())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	want := []string{"p0", "p1", "p2", "p3", "p4"}
	for range 30 {
		s := memview.New()
		for _, o := range crowdObjects(false, intstr.FromInt32(80)) {
			if b, ok := o.(*policyv1.PodDisruptionBudget); ok {
				b.Status.DisruptedPods = map[string]metav1.Time{}
				for _, name := range want {
					b.Status.DisruptedPods[name] = metav1.NewTime(now.Add(-time.Hour))
				}
			}
			s.Put(o)
		}
		for i, name := range want {
			s.Put(podAt(name, types.UID(name), i+1))
		}
		s.TakeChanges()
		controller.Settle(set, s, []controller.Trigger{{Controller: "disruption", Key: object.Key{Resource: "poddisruptionbudgets", Namespace: "d", Name: "web"}}}, now, 1<<20, admission.Complete)
		var told []string
		for _, ch := range s.TakeChanges() {
			if ch.Key.Resource == "events" {
				told = append(told, ch.Key.Name[:2])
			}
		}
		if !slices.Equal(told, want) {
			t.Fatalf("told of %v, want %v", told, want)
		}
	}
}
