package api

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"reconcile/object"
)

// TestFieldManagersChangeNothing: what is stored is shared by all readers, and field managers get it as it is. They must not change it, nor give out
// parts of it.
func TestFieldManagersChangeNothing(t *testing.T) {
	t.Parallel()
	var m fieldManagers
	k, _ := object.KindOfResource("pods")
	f, err := m.of(k, "")
	if err != nil {
		t.Fatal(err)
	}
	made := func() *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "d", UID: "u", Labels: map[string]string{"a": "1"}, Annotations: map[string]string{
				corev1.LastAppliedConfigAnnotation: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Env: []corev1.EnvVar{{Name: "E", Value: "v"}}}}, NodeSelector: map[string]string{"n": "1"}},
		}
		p.SetGroupVersionKind(k.GVK)
		return p
	}
	live := f.UpdateNoErrors(&corev1.Pod{}, made(), "first").(*corev1.Pod)
	if len(live.ManagedFields) != 1 {
		t.Fatalf("%d managers after the creation, want 1", len(live.ManagedFields))
	}
	before := live.DeepCopy()
	same := func(what string) {
		t.Helper()
		if !reflect.DeepEqual(live, before) {
			t.Errorf("%s changed the stored object: %v, was %v", what, live, before)
		}
	}

	next := made()
	next.Labels["a"] = "2"
	if o := f.UpdateNoErrors(live, next, "second").(*corev1.Pod); len(o.ManagedFields) != 2 {
		t.Errorf("%d managers after an update, want 2", len(o.ManagedFields))
	}
	same("an update")
	// kubectl's name makes the annotation follow.
	for _, manager := range []string{"kubectl", "third"} {
		doc := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "labels": map[string]any{"b": "1"}}}}
		done, err := f.Apply(flat(live), doc, manager, true)
		if err != nil {
			t.Fatal(err)
		}
		o := done.(*corev1.Pod)
		if o.Labels["b"] != "1" || o.Labels["a"] != "1" {
			t.Fatalf("%s: labels %v after an apply", manager, o.Labels)
		}
		o.Labels["a"], o.Annotations["x"], o.Spec.NodeSelector["n"], o.Spec.Containers[0].Env[0].Value = "9", "9", "9", "9"
		same("an apply by " + manager)
	}
	// A status alone is no new object: nothing comes back, and nothing may be shared.
	if done, err := f.Apply(flat(live), &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p"}}}, "third", true); err != nil {
		t.Fatal(err)
	} else if o, ok := done.(*corev1.Pod); ok {
		o.SetLabels(map[string]string{"z": "z"})
	}
	same("an apply of nothing")
}
