package object_test

import (
	"bytes"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestPayload: the protobuf inside an object's stored bytes is what the object encodes to, for every kind that has one; bytes that are cut short,
// or are of something else, give none that is longer or other than that.
func TestPayload(t *testing.T) {
	t.Parallel()
	protobuf := 0
	for _, k := range object.Kinds() {
		o := k.New()
		o.SetName("n")
		o.SetResourceVersion("7")
		o.SetLabels(map[string]string{"a": "1", "b": "2"})
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: metav1.NewFieldsV1(`{"f:x":{}}`)}})
		b, err := object.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		raw, ok := object.Payload(b)
		m, has := o.(interface{ Marshal() ([]byte, error) })
		if ok != has {
			t.Errorf("%s: payload found: %v, want %v", k, ok, has)
		}
		if !has {
			continue
		}
		protobuf++
		want, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, want) {
			t.Errorf("%s: payload %q, want %q", k, raw, want)
		}
		for i := range b {
			if raw, ok := object.Payload(b[:i]); ok && !bytes.Equal(raw, want) {
				t.Errorf("%s: %d of %d bytes give payload %q", k, i, len(b), raw)
			}
		}
	}
	if protobuf < 20 {
		t.Errorf("%d kinds with protobuf, want most", protobuf)
	}
	for _, b := range []string{"", "k8s", "x", "k8s\x00\x12\x7f", `{"kind":"Pod"}`} {
		if raw, ok := object.Payload([]byte(b)); ok {
			t.Errorf("%q gives payload %q", b, raw)
		}
	}
}
