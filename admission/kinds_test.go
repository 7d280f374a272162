package admission

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

// everyKind reads one good object of every kind and version, as a client would send it.
func everyKind(t *testing.T) []object.Object {
	t.Helper()
	b, err := os.ReadFile("testdata/kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var out []object.Object
	for _, doc := range bytes.Split(b, []byte("\n---\n")) {
		j, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			t.Fatal(err)
		}
		o, strict, err := DecodeJSON(j)
		if err != nil || len(strict) > 0 {
			t.Fatalf("%s: %v, %v", doc, strict, err)
		}
		out = append(out, o)
	}
	return out
}

// TestEveryKind takes an object of every kind through the way of a creation, an update and a write of the status.
func TestEveryKind(t *testing.T) {
	seen := map[schema.GroupVersionKind]bool{}
	for _, sent := range everyKind(t) {
		k, err := object.KindOfObject(sent)
		if err != nil {
			t.Fatal(err)
		}
		seen[k.GVK] = true
		t.Run(k.GVK.Kind+"."+k.GVK.GroupVersion().String(), func(t *testing.T) {
			o := object.Copy(sent)
			Default(o)
			if o, err = Convert(o, k.Stored()); err != nil {
				t.Fatal(err)
			}
			Default(o)
			if faults := Validate(o, nil); len(faults) > 0 {
				t.Errorf("as a file: %v", faults)
			}
			PrepareRequester(o, "jane", []string{"team"})
			PrepareCreate(o, "uid-1", time.Unix(1000, 0))
			if faults := Validate(o, nil); len(faults) > 0 {
				t.Fatalf("create: %v", faults)
			}
			o.SetResourceVersion("5")
			b, err := object.Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			back, err := object.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(o, back); d != "" {
				t.Errorf("through the store: %s", d)
			}
			same := object.Copy(o)
			same.SetLabels(map[string]string{"kubernetes.io/metadata.name": o.GetName(), "a": "b"})
			if k.Resource == "ipaddresses" || k.Resource == "endpointslices" {
				same.SetLabels(o.GetLabels())
			}
			Default(same)
			PrepareUpdate(same, o)
			if faults := Validate(same, o); len(faults) > 0 {
				t.Errorf("update: %v", faults)
			}
			if same.GetGeneration() != o.GetGeneration() && k.Resource != "endpointslices" {
				t.Errorf("generation %d became %d by a label", o.GetGeneration(), same.GetGeneration())
			}
			st := object.Copy(o)
			PrepareStatusUpdate(st, o, time.Unix(2000, 0))
			if faults := ValidateStatus(st, o); k.Status && len(faults) > 0 {
				t.Errorf("status: %v", faults)
			}
			// Back to the version that was sent, and to the stored one again: nothing is lost.
			other, err := Convert(o, k)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Convert(object.Copy(other), k.Stored())
			if err != nil {
				t.Fatal(err)
			}
			if !equal(o, again) {
				t.Errorf("by way of %s: %s", k.GVK.GroupVersion(), cmp.Diff(o, again))
			}
		})
	}
	for _, k := range object.Served() {
		if r := rulesOf(k.Resource); k.GVK.Group != object.GroupVersion.Group && (r.create == nil || r.update == nil) {
			t.Errorf("%s has no rules", k)
		}
		if !seen[k.GVK] && k.GVK.Group != object.GroupVersion.Group {
			t.Errorf("testdata/kinds.yaml has no %s of %s", k.GVK.Kind, k.GVK.GroupVersion())
		}
	}
}
