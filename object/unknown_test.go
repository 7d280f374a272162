package object

import (
	"bytes"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"
)

// TestUnknown reads random envelopes, whole and damaged: what is read without a copy is what runtime.Unknown reads, and what we and Kubernetes write is
// read so.
func TestUnknown(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: rapid.String().Draw(t, "apiVersion"), Kind: rapid.String().Draw(t, "kind")},
			Raw: rapid.SliceOf(rapid.Byte()).Draw(t, "raw"), ContentEncoding: rapid.String().Draw(t, "encoding"), ContentType: rapid.String().Draw(t, "type")}
		b, err := in.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := unknownOf(b); !ok {
			t.Fatalf("%q is not read", b)
		}
		switch rapid.IntRange(0, 3).Draw(t, "damage") {
		case 1:
			b = b[:rapid.IntRange(0, len(b)).Draw(t, "cut")]
		case 2:
			b[rapid.IntRange(0, len(b)-1).Draw(t, "where")] = rapid.Byte().Draw(t, "byte")
		case 3:
			b = append(b, rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "more")...)
		}
		got, ok := unknownOf(b)
		if !ok {
			return
		}
		var want runtime.Unknown
		if err := want.Unmarshal(b); err != nil {
			t.Fatalf("%q is read, and Kubernetes says %v", b, err)
		}
		if !bytes.Equal(got.Raw, want.Raw) || got.TypeMeta != want.TypeMeta || got.ContentType != want.ContentType || got.ContentEncoding != want.ContentEncoding {
			t.Fatalf("%q is read as %+v, want %+v", b, got, want)
		}
	})
}

// TestShareFields: the sets of fields of an object become those in its stored bytes, of which a change shows, and stay what they say.
func TestShareFields(t *testing.T) {
	t.Parallel()
	fields := func(s string) *metav1.FieldsV1 { return &metav1.FieldsV1{Raw: []byte(s)} }
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b", ManagedFields: []metav1.ManagedFieldsEntry{
		{Manager: "x", FieldsV1: fields(`{"f:data":{"f:x":{}}}`)}, {Manager: "y"}, {Manager: "z", FieldsV1: fields(`{"f:data":{}}`)}, {Manager: "0", FieldsV1: fields("")}}}}
	stored, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	before := o.DeepCopyObject()
	ShareFields(o, stored)
	if !equality.Semantic.DeepEqual(o, before) {
		t.Fatalf("it became %v, was %v", o, before)
	}
	copied := Copy(o)
	for i := range stored {
		stored[i] = '!'
	}
	for i, want := range []string{"!!!", "", "!!!", ""} {
		f := o.GetManagedFields()[i].FieldsV1
		if got := f != nil && strings.HasPrefix(string(f.Raw), "!!!"); got != (want != "") {
			t.Errorf("the fields of manager %d are shared: %v", i, got)
		}
	}
	if !equality.Semantic.DeepEqual(copied, before) {
		t.Error("a copy of the object shares its fields with the stored bytes")
	}
}
