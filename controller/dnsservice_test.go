package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestDNSService: the service is there from the start, comes back when it is deleted, and is not changed back.
func TestDNSService(t *testing.T) {
	w := newWorld(t)
	key := object.Key{Resource: "services", Namespace: "kube-system", Name: "kube-dns"}
	get := func() *corev1.Service {
		t.Helper()
		o, ok := w.state.Get(key)
		if !ok {
			t.Fatal("no service kube-system/kube-dns")
		}
		return o.(*corev1.Service)
	}
	svc := get()
	if svc.Spec.ClusterIP != "10.96.0.10" || len(svc.Spec.Ports) != 2 || svc.Spec.Ports[0].Port != 53 || len(svc.Spec.Selector) > 0 {
		t.Errorf("spec %+v", svc.Spec)
	}
	edited := object.Copy(svc)
	edited.Labels["mine"] = "yes"
	if err := w.put(edited); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if get().Labels["mine"] != "yes" {
		t.Error("a label was taken away")
	}
	if err := w.delete(key, controller.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if get().Labels["mine"] != "" {
		t.Error("the deleted service is still there")
	}
}
