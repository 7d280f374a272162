package controller_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/controller"
	"reconcile/object"
)

// onePod is the least that a pod has.
var onePod = corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}

func podKey(namespace, name string) object.Key {
	return object.Key{Resource: "pods", Namespace: namespace, Name: name}
}

// deletes asks for a deletion as a client does, and lets the controllers follow.
func (w *world) deletes(key object.Key, policy string) {
	w.t.Helper()
	if err := w.delete(key, controller.DeleteOptions{PropagationPolicy: policy}); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// TestForegroundDeletionOfACircle deletes one of three pods that own each other and say that their owner is to wait for them.
func TestForegroundDeletionOfACircle(t *testing.T) {
	w := newWorld(t)
	yes := true
	owner := map[string]string{"a": "c", "b": "a", "c": "b"}
	for name, of := range owner {
		w.state.Put(&corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: of, UID: types.UID(of), Controller: &yes, BlockOwnerDeletion: &yes}}}, Spec: onePod})
	}
	w.settle()
	w.deletes(podKey("default", "a"), string(metav1.DeletePropagationForeground))
	for name := range owner {
		if o, ok := w.state.Get(podKey("default", name)); ok {
			t.Errorf("%s is still there: finalizers %v, owners %v", name, o.GetFinalizers(), o.GetOwnerReferences())
		}
	}
}

// TestForegroundDeletionLetsGoOfWhatOthersOwn deletes two owners in the foreground. What a third one owns too stays with that one alone, and nobody
// waits for it; what only those two own goes.
func TestForegroundDeletionLetsGoOfWhatOthersOwn(t *testing.T) {
	w := newWorld(t)
	yes := true
	put := func(name string, finalizers []string, owners ...string) {
		p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Finalizers: finalizers}, Spec: onePod}
		for _, o := range owners {
			p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: o, UID: types.UID(o), BlockOwnerDeletion: &yes})
		}
		w.state.Put(p)
	}
	put("first", nil)
	put("second", nil)
	put("stays", nil)
	put("shared", nil, "first", "stays")
	put("of both", nil, "first", "second")
	put("held", []string{"example.com/held"}, "second")
	w.settle()
	foreground := string(metav1.DeletePropagationForeground)
	w.deletes(podKey("default", "second"), foreground)
	w.deletes(podKey("default", "first"), foreground)
	for name, want := range map[string]bool{"first": false, "second": true, "stays": true, "shared": true, "of both": false, "held": true} {
		if _, ok := w.state.Get(podKey("default", name)); ok != want {
			t.Errorf("%s is there: %v, want %v", name, ok, want)
		}
	}
	o, ok := w.state.Get(podKey("default", "shared"))
	if !ok || o.GetDeletionTimestamp() != nil || len(o.GetOwnerReferences()) != 1 || o.GetOwnerReferences()[0].Name != "stays" {
		t.Errorf("shared: %v", o)
	}
}

// TestNamespaceWaitsForItsPods deletes a namespace whose pod a finalizer keeps: what else is in it stays until the pod is gone, nothing new comes,
// and the conditions say what is waited for.
func TestNamespaceWaitsForItsPods(t *testing.T) {
	w := newWorld(t)
	key := object.Key{Resource: "namespaces", Name: "x"}
	w.state.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}})
	w.state.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p", UID: "p", Finalizers: []string{"example.com/kept"}}, Spec: onePod})
	config := object.Key{Resource: "configmaps", Namespace: "x", Name: "c"}
	w.state.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "c", UID: "c"}})
	w.settle()
	w.deletes(key, "")
	if _, ok := w.state.Get(config); !ok {
		t.Error("the config map went before the pod")
	}
	o, ok := w.state.Get(key)
	if !ok {
		t.Fatal("the namespace went before its pod")
	}
	said := map[corev1.NamespaceConditionType]string{}
	for _, c := range o.(*corev1.Namespace).Status.Conditions {
		said[c.Type] = string(c.Status) + " " + c.Message
	}
	for kind, want := range map[corev1.NamespaceConditionType]string{
		corev1.NamespaceDeletionContentFailure: "False All content successfully deleted, may be waiting on finalization",
		corev1.NamespaceContentRemaining:       "True Some resources are remaining: pods. has 1 resource instances",
		corev1.NamespaceFinalizersRemaining:    "True Some content in the namespace has finalizers remaining: example.com/kept in 1 resource instances",
	} {
		if said[kind] != want {
			t.Errorf("%s is %q, want %q", kind, said[kind], want)
		}
	}
	p, _ := w.state.Get(podKey("x", "p"))
	free := object.Copy(p)
	free.SetFinalizers(nil)
	if !controller.Finished(free) {
		t.Fatalf("the pod does not go without its finalizer: %v", p)
	}
	w.state.Delete(podKey("x", "p"))
	w.settle()
	for _, k := range []object.Key{config, key} {
		if _, ok := w.state.Get(k); ok {
			t.Errorf("%s is still there", k)
		}
	}
}

// TestNothingComesIntoATerminatingNamespace keeps a replica set from replacing the pods of a namespace that is being deleted.
func TestNothingComesIntoATerminatingNamespace(t *testing.T) {
	w := newWorld(t)
	for _, doc := range []string{`apiVersion: v1
kind: Namespace
metadata: {name: x}
`, `apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: r, namespace: x}
spec:
  replicas: 2
  selector: {matchLabels: {app: r}}
  template:
    metadata: {labels: {app: r}, finalizers: [example.com/kept]}
    spec: {containers: [{name: c, image: i}]}
`} {
		if err := w.apply(doc); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	names := func() string {
		var out []string
		for o := range w.state.List("pods", "x") {
			out = append(out, o.GetName())
		}
		return strings.Join(out, " ")
	}
	before := names()
	if len(strings.Fields(before)) != 2 {
		t.Fatalf("pods %q, want two", before)
	}
	w.deletes(object.Key{Resource: "namespaces", Name: "x"}, "")
	if after := names(); after != before {
		t.Errorf("pods %q, and %q before the namespace's deletion", after, before)
	}
	if len(w.last.Errors)+len(w.last.Quarantined) > 0 {
		t.Errorf("errors %v, quarantined %v", w.last.Errors, w.last.Quarantined)
	}
}

// TestNamespaceOfAJobGoes deletes a namespace with a Job, which must let go of its pods though it would like to replace them.
func TestNamespaceOfAJobGoes(t *testing.T) {
	w := newWorld(t)
	for _, doc := range []string{"apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n", `apiVersion: batch/v1
kind: Job
metadata: {name: j, namespace: x}
spec:
  parallelism: 2
  completions: 4
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}
`} {
		if err := w.apply(doc); err != nil {
			t.Fatal(err)
		}
		w.settle()
	}
	pods := 0
	for range w.state.List("pods", "x") {
		pods++
	}
	if pods != 2 {
		t.Fatalf("%d pods, want two", pods)
	}
	w.deletes(object.Key{Resource: "namespaces", Name: "x"}, "")
	if o, ok := w.state.Get(object.Key{Resource: "namespaces", Name: "x"}); ok {
		for p := range w.state.List("pods", "x") {
			t.Logf("%s has finalizers %v", p.GetName(), p.GetFinalizers())
		}
		t.Errorf("the namespace is still there: %v", o.(*corev1.Namespace).Status.Conditions)
	}
}

// TestQuotaStatusOfOthersStays writes the status of a quota as a client does: it stays until the quota is looked at again by itself.
func TestQuotaStatusOfOthersStays(t *testing.T) {
	w := newWorld(t)
	key := object.Key{Resource: "resourcequotas", Namespace: "default", Name: "q"}
	w.state.Put(&corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "q", UID: "q"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("1")}}})
	w.settle()
	limit := func() string {
		o, _ := w.state.Get(key)
		q := o.(*corev1.ResourceQuota).Status.Hard["pods"]
		return q.String()
	}
	if limit() != "1" {
		t.Fatalf("the status says %s, want 1", limit())
	}
	o, _ := w.state.Get(key)
	q := object.Copy(o).(*corev1.ResourceQuota)
	q.Status.Hard = corev1.ResourceList{"pods": resource.MustParse("2")}
	w.state.Put(q)
	if w.settle(); limit() != "2" {
		t.Errorf("the status that a client wrote is overwritten at once: %s", limit())
	}
	w.now = w.now.Add(5 * time.Minute)
	if w.settle(); limit() != "1" {
		t.Errorf("after five minutes the status still says %s", limit())
	}
}
