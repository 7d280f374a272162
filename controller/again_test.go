package controller_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// TestMadeAgain: what the cluster makes again under the name of what somebody deleted is another object: kubectl waits until what it deleted is gone, or has
// another UID.
func TestMadeAgain(t *testing.T) {
	w := newWorld(t)
	if err := w.apply("apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: default}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n"); err != nil {
		t.Fatal(err)
	}
	w.settle()
	keys := []object.Key{
		{Resource: "services", Namespace: "default", Name: "kubernetes"}, {Resource: "endpoints", Namespace: "default", Name: "kubernetes"},
		{Resource: "services", Namespace: "kube-system", Name: "kube-dns"}, {Resource: "endpoints", Namespace: "default", Name: "s"},
	}
	for o := range w.state.List("endpointslices", "") {
		keys = append(keys, object.KeyOf(o))
	}
	// What is stored has a version.
	for _, key := range []object.Key{{Resource: "services", Namespace: "default", Name: "s"}, {Resource: "services", Namespace: "default", Name: "kubernetes"},
		{Resource: "namespaces", Name: "default"}, {Resource: "namespaces", Name: "kube-system"}} {
		o, ok := w.state.Get(key)
		if !ok {
			t.Fatalf("there is no %s", key)
		}
		o = object.Copy(o)
		o.SetResourceVersion("7")
		w.state.Put(o)
	}
	w.settle()
	for _, key := range keys {
		o, ok := w.state.Get(key)
		if !ok {
			t.Errorf("there is no %s", key)
			continue
		}
		was := o.GetUID()
		w.state.Delete(key)
		w.settle()
		now := types.UID("")
		if o, ok := w.state.Get(key); ok {
			now = o.GetUID()
		}
		if now == was || now == "" {
			t.Errorf("%s made again has UID %q, before %q", key, now, was)
		}
	}
}
