package controller_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestDefaultServiceCIDR looks for the range of services as an object, and for it again after somebody has deleted it.
func TestDefaultServiceCIDR(t *testing.T) {
	w := newWorld(t)
	key := object.Key{Resource: "servicecidrs", Name: "kubernetes"}
	for range 2 {
		o, ok := w.state.Get(key)
		if !ok {
			t.Fatal("there is no default ServiceCIDR")
		}
		r := o.(*networkingv1.ServiceCIDR)
		if len(r.Spec.CIDRs) != 1 || r.Spec.CIDRs[0] != "10.96.0.0/16" || len(r.Status.Conditions) != 1 || r.Status.Conditions[0].Type != "Ready" || r.Status.Conditions[0].Status != "True" {
			t.Errorf("it is %v, %v", r.Spec, r.Status)
		}
		if err := w.delete(key, controller.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
}
