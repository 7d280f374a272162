package api

import (
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

// TestRoundTrip takes random objects of every kind and version through every form that the API speaks, and through the store's: nothing is
// lost, nothing is added. The objects are filled as Kubernetes fills them for the same test of its own.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	codecs := serializer.NewCodecFactory(object.Scheme())
	for _, k := range object.Served() {
		t.Run(k.Resource+"."+k.GVK.GroupVersion().String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				seed := rapid.Int64().Draw(rt, "seed")
				o := k.New()
				fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), codecs).Fill(o)
				o.GetObjectKind().SetGroupVersionKind(k.GVK)
				if r, ok := o.(*appsv1.ControllerRevision); ok {
					// Its data is JSON of any shape, and YAML keeps no order of keys.
					fuzzer.NormalizeJSONRawExtension(&r.Data)
				}
				roundTrip(rt, k, o)
			})
		})
	}
}

func roundTrip(rt *rapid.T, k object.Kind, o object.Object) {
	was := object.Copy(o)
	same := func(form string, got object.Object) {
		if !equality.Semantic.DeepEqual(o, got) {
			a, _ := object.EncodeJSON(o)
			b, _ := object.EncodeJSON(got)
			rt.Errorf("%s (-sent +read): %s", form, cmp.Diff(string(a), string(b)))
		}
	}
	read := func(media string, b []byte) {
		got, strict, err := decodeObject(k, b, media)
		if err != nil || len(strict) > 0 {
			rt.Fatalf("%s: %v, %v", media, err, strict)
		}
		same(media, got)
	}
	text, err := encodeAs(o, encodeJSON)
	if err != nil {
		rt.Fatal(err)
	}
	read(mediaJSON, text)
	if text, err = yaml.JSONToYAML(text); err != nil {
		rt.Fatal(err)
	}
	read(mediaYAML, text)
	if hasProto(k) {
		raw, err := encodeAs(o, encodeProto)
		if err != nil {
			rt.Fatal(err)
		}
		read(mediaProto, envelope(k.GVK, raw))
	}
	var kept object.Object
	if k.IsStored() {
		b, err := object.Encode(o)
		if err != nil {
			rt.Fatal(err)
		}
		if kept, err = object.Decode(b); err != nil {
			rt.Fatal(err)
		}
	}
	if !equality.Semantic.DeepEqual(o, was) {
		rt.Errorf("encoding changed the object: %s", cmp.Diff(was, o))
	}
	if sts, ok := o.(*appsv1.StatefulSet); ok {
		// The stored form tells no types of parts; they are filled in.
		for i := range sts.Spec.VolumeClaimTemplates {
			sts.Spec.VolumeClaimTemplates[i].APIVersion, sts.Spec.VolumeClaimTemplates[i].Kind = "v1", "PersistentVolumeClaim"
		}
	}
	if kept != nil {
		same("store", kept)
	}
}
