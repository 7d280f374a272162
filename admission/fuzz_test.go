package admission

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// FuzzAdmit takes whatever JSON the way of a creation and of an update, of each kind and by each of its subresources: nothing panics, what is admitted
// can be stored, and admitting it again changes nothing.
func FuzzAdmit(f *testing.F) {
	kinds := object.Served()
	for i, k := range kinds {
		o := k.New()
		o.SetName("x")
		j, err := object.EncodeJSON(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(j, []byte(`{"metadata":{"name":"x","labels":{"a":"b"}},"spec":{},"status":{}}`), uint8(i), uint8(i))
	}
	f.Add([]byte(`{"metadata":{"name":"x"},"spec":{"type":"LoadBalancer","ports":[{"port":80}],"clusterIPs":[""]}}`), []byte(`{"metadata":{"name":"x"},"spec":{"type":"ExternalName"}}`), uint8(13), uint8(0))
	now := time.Unix(1_700_000_000, 0)
	subresources := []string{"", "status", "approval", "finalize", "resize", "ephemeralcontainers", "binding"}
	f.Fuzz(func(t *testing.T, first, second []byte, kind, sub uint8) {
		k := kinds[int(kind)%len(kinds)]
		old, ok := admitted(k, first)
		if !ok {
			return
		}
		PrepareCreate(old, types.UID("11111111-2222-3333-4444-555555555555"), now)
		faults := ValidateAs(k, old, nil)
		Warnings(old, nil)
		if len(faults) > 0 {
			return
		}
		stored(t, old)
		o, ok := admitted(k, second)
		if !ok {
			return
		}
		how, ok := WriteOf(k, subresources[int(sub)%len(subresources)])
		if !ok {
			return
		}
		ValidateKept(o, old)
		o.SetName(old.GetName())
		o.SetNamespace(old.GetNamespace())
		how.Prepare(o, old, now)
		if how.Validate == nil || len(how.Validate(o, old)) > 0 {
			return
		}
		Warnings(o, old)
		stored(t, o)
		again := object.Copy(o)
		how.Prepare(again, o, now)
		again.SetResourceVersion(o.GetResourceVersion())
		if !equal(again, o) && again.GetGeneration() != o.GetGeneration() {
			t.Errorf("the same again counts a generation: %d, %d", o.GetGeneration(), again.GetGeneration())
		}
	})
}

// admitted reads an object of a version of a kind, with its defaults, in the version that is stored.
func admitted(k object.Kind, b []byte) (object.Object, bool) {
	o := k.New()
	if _, err := DecodeInto(b, o); err != nil {
		return nil, false
	}
	o.GetObjectKind().SetGroupVersionKind(k.GVK)
	Default(o)
	o, err := Convert(o, k.Stored())
	if err != nil {
		return nil, false
	}
	o.GetObjectKind().SetGroupVersionKind(k.Stored().GVK)
	Default(o)
	return o, true
}

// stored holds that an object can be stored and read.
func stored(t *testing.T, o object.Object) {
	t.Helper()
	b, err := object.Encode(o)
	if err != nil {
		t.Fatalf("what was admitted cannot be stored: %v", err)
	}
	if _, err := object.Decode(b); err != nil {
		t.Fatalf("what was stored cannot be read: %v", err)
	}
}
