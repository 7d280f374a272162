package admission

import (
	"math/rand"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"pgregory.net/rapid"

	"reconcile/object"
)

// ofEachKind checks a property of random objects of each kind that this package knows.
func ofEachKind(t *testing.T, property func(*rapid.T, object.Kind, object.Object)) {
	codecs := serializer.NewCodecFactory(object.Scheme())
	for _, k := range object.Kinds() {
		if !Knows(k) {
			continue
		}
		t.Run(k.Resource, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				o := k.New()
				fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(rapid.Int64().Draw(rt, "seed")), codecs).Fill(o)
				o.GetObjectKind().SetGroupVersionKind(k.GVK)
				property(rt, k, o)
			})
		})
	}
}

// TestKeptTwice demands that what Default makes of random objects is what Kubernetes' conversions to its internal types and back leave as it is: those
// fill in the fields that it keeps under two names.
func TestKeptTwice(t *testing.T) {
	t.Parallel()
	ofEachKind(t, func(rt *rapid.T, k object.Kind, o object.Object) {
		rolling(o)
		Default(o)
		in, err := toInternal(object.Copy(o))
		if err != nil {
			rt.Skip(err)
		}
		want := k.New()
		if err := internal.Convert(in, want, nil); err != nil {
			rt.Fatal(err)
		}
		want.GetObjectKind().SetGroupVersionKind(k.GVK)
		if !equality.Semantic.DeepEqual(want, o) {
			a, _ := object.EncodeJSON(want)
			b, _ := object.EncodeJSON(o)
			rt.Errorf("-Kubernetes +ours: %s", cmp.Diff(string(a), string(b)))
		}
	})
}

// TestDefaultsOfWhatIsRead demands that defaults change nothing in what is read from the store, not even from nil to empty: Kubernetes fills them in
// whenever it reads, and what compares exactly (validation of immutable fields, owners of fields) would otherwise see a change that nobody made.
func TestDefaultsOfWhatIsRead(t *testing.T) {
	t.Parallel()
	ofEachKind(t, func(rt *rapid.T, k object.Kind, o object.Object) {
		known(rt, o)
		o = asRead(rt, o) // an empty list that somebody sent is none then
		Default(o)
		read := asRead(rt, o)
		again := object.Copy(read)
		Default(again)
		if !reflect.DeepEqual(read, again) {
			rt.Errorf("-read +with defaults: %s", cmp.Diff(read, again))
		}
	})
}

// asRead is an object as it is read from the store.
func asRead(rt *rapid.T, o object.Object) object.Object {
	b, err := object.Encode(o)
	if err != nil {
		rt.Fatal(err)
	}
	read, err := object.Decode(b)
	if err != nil {
		rt.Fatal(err)
	}
	return read
}

// known makes a random text one that defaults look for.
func known(rt *rapid.T, o object.Object) {
	if l, ok := o.(*corev1.LimitRange); ok {
		for i := range l.Spec.Limits {
			l.Spec.Limits[i].Type = rapid.SampledFrom([]corev1.LimitType{corev1.LimitTypeContainer, corev1.LimitTypePod}).Draw(rt, "type")
		}
	}
}

// rolling gives a workload a strategy that there is: what is under one that there is not, is refused.
func rolling(o object.Object) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		o.Spec.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	case *appsv1.DaemonSet:
		o.Spec.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	case *appsv1.StatefulSet:
		o.Spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
	}
}
