package controller_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/controller"
	"reconcile/object"
)

// TestOneLookForOneChange: a pod that is no longer ready makes its ReplicaSet, budget and service look at all their pods once, and not again
// because of what they wrote themselves.
func TestOneLookForOneChange(t *testing.T) {
	w := newWorld(t)
	w.node("n1", "4", "8Gi", nil)
	if err := w.apply(deployment("web", 5, "v1", "")); err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n",
		"apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web}\nspec: {selector: {matchLabels: {app: web}}, minAvailable: 2}\n"} {
		if err := w.apply(doc); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	w.kubelet(100)
	w.settle()
	runs := map[string]*int{}
	for _, name := range []string{"replicaset", "disruption", "endpoints"} {
		runs[name] = controller.CountRuns(w.set, name)
	}
	for o := range w.state.List("pods", "") {
		p := object.Copy(o).(*corev1.Pod)
		for i := range p.Status.Conditions {
			p.Status.Conditions[i].Status = corev1.ConditionFalse
		}
		w.state.Put(p)
		break
	}
	if out := w.settle(); out.Ops < 4 {
		t.Errorf("%d writes: the ReplicaSet's, budget's, slice's and Deployment's were to follow", out.Ops)
	}
	for name, n := range runs {
		if *n != 1 {
			t.Errorf("%s ran %d times", name, *n)
		}
	}
}
