package api

import (
	"math/rand"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"pgregory.net/rapid"

	"reconcile/object"
)

// otherValues changes what is set in an object outside of lists, and sets nothing that is not.
func otherValues(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			otherValues(v.Elem())
		}
	case reflect.Struct:
		if v.Type() == timeType || reflect.PointerTo(v.Type()).Implements(marshalType) {
			return
		}
		for i := range v.NumField() {
			otherValues(v.Field(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(it.Value())
			otherValues(value)
			v.SetMapIndex(it.Key(), value)
		}
	case reflect.String:
		if v.Len() > 0 {
			v.SetString(v.String() + "x")
		}
	case reflect.Int32, reflect.Int64:
		if v.Int() != 0 {
			v.SetInt(v.Int() ^ 2 | 1)
		}
	}
}

// TestCreatedShapes: what belongs to who makes an object is told from its shape: for random objects of every kind, those with other values have the
// same name of a shape, and Kubernetes' own package gives them the same fields; what is remembered of the one is what it gives for the other.
func TestCreatedShapes(t *testing.T) {
	t.Parallel()
	codecs := serializer.NewCodecFactory(object.Scheme())
	var m fieldManagers
	for _, k := range object.Kinds() {
		if k.GVK.Group == object.GroupVersion.Group {
			continue
		}
		f, err := m.of(k, "")
		if err != nil || f == nil {
			t.Fatal(k, err)
		}
		same, all := 0, 0
		rapid.Check(t, func(rt *rapid.T) {
			seed := rapid.Int64().Draw(rt, "seed")
			one := k.New()
			fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), codecs).Fill(one)
			one.GetObjectKind().SetGroupVersionKind(k.GVK)
			one.SetManagedFields(nil)
			one.SetUID("")
			other := object.Copy(one)
			otherValues(reflect.ValueOf(other))
			other.GetObjectKind().SetGroupVersionKind(k.GVK)
			other.SetUID("")
			key, ok := shapeKey(k, "m", one)
			key2, ok2 := shapeKey(k, "m", other)
			if ok != ok2 || key != key2 {
				rt.Fatalf("%s: other values make another shape", k)
			}
			all++
			if !ok {
				return
			}
			same++
			var c created
			c.keep(key, f.UpdateNoErrors(k.New(), object.Copy(one), "m").(object.Object))
			want := f.UpdateNoErrors(k.New(), object.Copy(other), "m").(object.Object).GetManagedFields()
			got, found := c.entry(key, time.Unix(5, 0))
			if len(want) != 1 {
				if found {
					rt.Fatalf("%s: remembered %v, want none", k, got)
				}
				return
			}
			if !found || got.Time.Unix() != 5 {
				rt.Fatalf("%s: nothing is remembered, or of another time: %v", k, got)
			}
			want[0].Time = got.Time
			if !reflect.DeepEqual(got, want[0]) {
				rt.Fatalf("%s: remembered %v, want %v", k, got, want[0])
			}
		})
		if same*2 < all {
			t.Errorf("%s: the shape of %d of %d objects could be told", k, same, all)
		}
	}
}

// TestShapeTells: whatever is a part of a field's path makes another shape, and so does what is set in one object only.
func TestShapeTells(t *testing.T) {
	t.Parallel()
	k, _ := object.KindOfResource("pods")
	key := func(change func(p *corev1.Pod)) string {
		t.Helper()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"a": "1"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}}}}, Priority: new(int32)}}
		if change != nil {
			change(p)
		}
		b, ok := shapeKey(k, "m", p)
		if !ok {
			t.Fatal("the shape of a pod cannot be told")
		}
		return b
	}
	plain := key(nil)
	for name, change := range map[string]func(p *corev1.Pod){
		"a label more":                 func(p *corev1.Pod) { p.Labels["b"] = "1" },
		"another label":                func(p *corev1.Pod) { p.Labels = map[string]string{"b": "1"} },
		"no label, but a map":          func(p *corev1.Pod) { p.Labels = map[string]string{} },
		"another container":            func(p *corev1.Pod) { p.Spec.Containers[0].Name = "d" },
		"another port":                 func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 81 },
		"a port of another protocol":   func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].Protocol = "UDP" },
		"a finalizer":                  func(p *corev1.Pod) { p.Finalizers = []string{"a/b"} },
		"no priority":                  func(p *corev1.Pod) { p.Spec.Priority = nil },
		"a node":                       func(p *corev1.Pod) { p.Spec.NodeName = "n" },
		"a label in place of a taint":  func(p *corev1.Pod) { p.Labels, p.Annotations = nil, map[string]string{"a": "1"} },
		"a resource":                   func(p *corev1.Pod) { p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("1")} },
		"a container split in another": func(p *corev1.Pod) { p.Spec.Containers[0].Name, p.Spec.Containers[0].Image = "ci", "" },
	} {
		if key(change) == plain {
			t.Errorf("%s makes no other shape", name)
		}
	}
	for name, change := range map[string]func(p *corev1.Pod){
		"another name":             func(p *corev1.Pod) { p.Name = "q" },
		"a label of another value": func(p *corev1.Pod) { p.Labels["a"] = "2" },
	} {
		if key(change) != plain {
			t.Errorf("%s makes another shape", name)
		}
	}
	if other, _ := shapeKey(k, "n", &corev1.Pod{}); other == plain {
		t.Error("another manager makes no other shape")
	}
}
