package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A write that takes an object's last finalizer away removes it: its answer is what was asked for, and lists and watches of the moment before tell what
// was stored then.
func TestWriteThatRemovesIsNotWhatWasStored(t *testing.T) {
	t.Parallel()
	c := typed(t, startReal(t), false).CoreV1().ConfigMaps("default")
	ctx := t.Context()
	for name, write := range map[string]func(*corev1.ConfigMap) (*corev1.ConfigMap, error){
		"put": func(o *corev1.ConfigMap) (*corev1.ConfigMap, error) {
			o.Finalizers, o.Data = nil, map[string]string{"new": "2"}
			return c.Update(ctx, o, metav1.UpdateOptions{})
		},
		"patch": func(o *corev1.ConfigMap) (*corev1.ConfigMap, error) {
			return c.Patch(ctx, o.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null},"data":{"old":null,"new":"2"}}`), metav1.PatchOptions{})
		},
		"apply": func(o *corev1.ConfigMap) (*corev1.ConfigMap, error) {
			return c.Patch(ctx, o.Name, types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"apply"},"data":{"new":"2"}}`), metav1.PatchOptions{FieldManager: "a"})
		},
	} {
		o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"x.y/z"}}, Data: map[string]string{"old": "1"}}
		var err error
		if name == "apply" {
			o, err = c.Patch(ctx, name, types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"apply","finalizers":["x.y/z"]},"data":{"old":"1"}}`),
				metav1.PatchOptions{FieldManager: "a"})
		} else {
			o, err = c.Create(ctx, o, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		made := o.ResourceVersion
		if err := c.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if o, err = c.Get(ctx, name, metav1.GetOptions{}); err != nil || o.DeletionTimestamp == nil {
			t.Fatalf("%s: %v, %v", name, o, err)
		}
		waiting := o.ResourceVersion
		if o, err = write(o); err != nil || o.Data["new"] != "2" || len(o.Finalizers) > 0 {
			t.Errorf("%s is answered with %v, %v", name, o, err)
		}
		list, err := c.List(ctx, metav1.ListOptions{ResourceVersion: waiting, ResourceVersionMatch: metav1.ResourceVersionMatchExact, FieldSelector: "metadata.name=" + name})
		if err != nil || len(list.Items) != 1 || list.Items[0].Data["old"] != "1" || len(list.Items[0].Finalizers) != 1 {
			t.Errorf("after the %s the list of the moment before is %v, %v", name, list, err)
		}
		w, err := c.Watch(ctx, metav1.ListOptions{ResourceVersion: made, FieldSelector: "metadata.name=" + name})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"MODIFIED", "DELETED"} {
			e := <-w.ResultChan()
			if got, ok := e.Object.(*corev1.ConfigMap); !ok || string(e.Type) != want || got.Data["old"] != "1" {
				t.Errorf("after the %s a watch tells %s %v, want %s of the old data", name, e.Type, e.Object, want)
			}
		}
		w.Stop()
	}
}

// An object whose owner is not there is collected; who writes it is answered with what he wrote.
func TestWriteOfAnObjectWithoutItsOwner(t *testing.T) {
	t.Parallel()
	c := typed(t, startReal(t), false).CoreV1().ConfigMaps("default")
	ctx := t.Context()
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "gone"}}
	o, err := c.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "orphan", OwnerReferences: owner}}, metav1.CreateOptions{})
	if err != nil || o.UID == "" || o.ResourceVersion == "" || len(o.OwnerReferences) != 1 {
		t.Errorf("a creation is answered with %v, %v", o, err)
	}
	if _, err = c.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "child"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	o, err = c.Patch(ctx, "child", types.MergePatchType, []byte(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"gone","uid":"gone"}]}}`), metav1.PatchOptions{})
	if err != nil || len(o.OwnerReferences) != 1 {
		t.Errorf("a patch is answered with %v, %v", o, err)
	}
	for _, name := range []string{"orphan", "child"} {
		eventually(t, name+" is collected", func() bool {
			_, err := c.Get(ctx, name, metav1.GetOptions{})
			return err != nil
		})
	}
}
