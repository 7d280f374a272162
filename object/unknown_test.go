package object

import (
	"bytes"
	"testing"

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
