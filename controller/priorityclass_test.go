package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestSystemPriorityClasses looks for the two classes that every cluster has, and for them again after somebody has deleted or changed them.
func TestSystemPriorityClasses(t *testing.T) {
	w := newWorld(t)
	for name, value := range map[string]int32{"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000} {
		key := object.Key{Resource: "priorityclasses", Name: name}
		for range 2 {
			o, ok := w.state.Get(key)
			if !ok {
				t.Fatalf("there is no PriorityClass %s", name)
			}
			c := o.(*schedulingv1.PriorityClass)
			if c.Value != value || c.GlobalDefault || c.Description == "" || c.PreemptionPolicy == nil || *c.PreemptionPolicy != corev1.PreemptLowerPriority || c.UID == "" {
				t.Errorf("%s: %+v", name, c)
			}
			if err := w.delete(key, controller.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			w.settle()
		}
	}
}
