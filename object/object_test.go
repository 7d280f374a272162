package object

import (
	"errors"
	"math/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"pgregory.net/rapid"
)

// TestRoundTrip fills every kind with random values and expects the stored bytes to give the same object back.
func TestRoundTrip(t *testing.T) {
	codecs := serializer.NewCodecFactory(Scheme())
	for _, k := range Kinds() {
		t.Run(k.Resource, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				seed := rapid.Int64().Draw(rt, "seed")
				fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), codecs)
				in := k.New()
				if k.GVK.Group != GroupVersion.Group {
					fill.Fill(in)
				} else {
					in.SetName("c0ffee")
					in.SetResourceVersion("7")
				}
				in.GetObjectKind().SetGroupVersionKind(k.GVK)
				if k.read != nil {
					k.read(in)
				}
				b, err := Encode(in)
				if err != nil {
					rt.Fatal(err)
				}
				out, err := Decode(b)
				if err != nil {
					rt.Fatal(err)
				}
				if out.GetObjectKind().GroupVersionKind() != k.GVK {
					rt.Fatalf("decoded kind is %v, want %v", out.GetObjectKind().GroupVersionKind(), k.GVK)
				}
				if !equality.Semantic.DeepEqual(in, out) {
					rt.Fatalf("what was stored came back changed:\n%s", cmp.Diff(in, out))
				}
			})
		})
	}
}

// TestResourceNames: keys have no group, so a resource's name must be its own, and have no dot: RESOURCE.GROUP is for kinds that users define.
func TestResourceNames(t *testing.T) {
	seen := map[string]Kind{}
	for _, k := range Kinds() {
		if other, ok := seen[k.Resource]; ok {
			t.Errorf("%s and %s are both kept under %s", k, other, k.Resource)
		}
		if strings.ContainsAny(k.Resource, "./") {
			t.Errorf("%s is kept under %q", k, k.Resource)
		}
		seen[k.Resource] = k
	}
}

// TestCompareIsForReaders: keys are ordered part by part, which is not how their paths are.
func TestCompareIsForReaders(t *testing.T) {
	a, b := Key{Resource: "pods", Namespace: "d", Name: "z"}, Key{Resource: "pods", Namespace: "d-2", Name: "a"}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
		t.Error("namespace d must come before d-2")
	}
	if a.Path() < b.Path() {
		t.Error("paths are ordered as keys are: the comment of Compare is out of date")
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"no prefix":    []byte("{}"),
		"cut short":    []byte("k8s\x00\x0a\xff"),
		"unknown kind": mustUnknown(t, "example.com/v1", "Widget"),
	} {
		t.Run(name, func(t *testing.T) {
			if o, err := Decode(b); err == nil {
				t.Fatalf("Decode gave %v, want an error", o)
			}
		})
	}
	if _, err := Decode(mustUnknown(t, "example.com/v1", "Widget")); !errors.Is(err, ErrUnknownKind) {
		t.Errorf("Decode of an unknown kind gave %v, want ErrUnknownKind", err)
	}
}

func mustUnknown(t *testing.T, apiVersion, kind string) []byte {
	t.Helper()
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}}
	b, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("k8s\x00"), b...)
}

func TestPath(t *testing.T) {
	for _, tc := range []struct {
		key  Key
		path string
		text string
	}{
		{Key{"pods", "default", "web"}, "/registry/pods/default/web", "pod/default/web"},
		{Key{"nodes", "", "n1"}, "/registry/nodes/n1", "node/n1"},
		{Key{"commits", "", "c0ffee"}, "/registry/commits/c0ffee", "commit/c0ffee"},
	} {
		if got := tc.key.Path(); got != tc.path {
			t.Errorf("Path of %+v is %q, want %q", tc.key, got, tc.path)
		}
		if got := tc.key.String(); got != tc.text {
			t.Errorf("String of %+v is %q, want %q", tc.key, got, tc.text)
		}
		back, err := ParsePath(tc.path)
		if err != nil || back != tc.key {
			t.Errorf("ParsePath(%q) = %+v, %v, want %+v", tc.path, back, err, tc.key)
		}
	}
	for _, bad := range []string{"", "/registry", "/registry/", "/registry/pods", "/registry/pods//x", "/registry/a/b/c/d", "/git/refs/heads/main"} {
		if k, err := ParsePath(bad); err == nil {
			t.Errorf("ParsePath(%q) = %+v, want an error", bad, k)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Encode(Kinds()[0].New())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := Decode(b); err == nil && o == nil {
			t.Fatal("Decode gave neither an object nor an error")
		}
	})
}
