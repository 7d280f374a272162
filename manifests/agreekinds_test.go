package manifests

import (
	"bytes"
	"context"
	"maps"
	"os"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reconcile/object"
	"reconcile/schema"
)

// TestDefinitionsAgreeForEveryKind takes a good object of every kind that may come from git, and changes one field at a time down to
// the third level: leaves it out, or adds one that nobody knows. The closed definitions and the Go rules accept or refuse alike; where
// Go's rules across fields refuse what the definition cannot know of, only the other direction counts.
func TestDefinitionsAgreeForEveryKind(t *testing.T) {
	all, err := os.ReadFile("../admission/testdata/kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := newLoader(t)
	cues := cuecontext.New()
	definitions := cues.CompileString(schema.Definitions())
	for _, doc := range bytes.Split(all, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatal(err)
		}
		k, ok := object.KindOf(meta.GroupVersionKind())
		if !ok || !k.FromGit || !k.IsStored() {
			continue
		}
		t.Run(k.Resource, func(t *testing.T) {
			var tree map[string]any
			if err := yaml.Unmarshal(doc, &tree); err != nil {
				t.Fatal(err)
			}
			definition := definitions.LookupPath(cue.ParsePath("#" + k.GVK.Kind))
			judge := func(what string, m map[string]any, strict bool) {
				b, err := yaml.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				res, err := l.Load(context.Background(), Files{"x.yaml": b})
				if err != nil {
					t.Fatal(err)
				}
				j, err := yaml.YAMLToJSON(b)
				if err != nil {
					t.Fatal(err)
				}
				bad := definition.Unify(cues.CompileBytes(j)).Validate(cue.Concrete(true))
				if bad != nil && len(res.Findings) == 0 || strict && bad == nil && len(res.Findings) > 0 {
					t.Errorf("%s: the Go rules say %v, the definition %v", what, res.Findings, bad)
				}
			}
			judge("as it is", tree, true)
			mutate(tree, "", 3, func(what string, unknown bool) { judge(what, tree, unknown) })
		})
	}
}

// mutate changes a tree one field at a time, calls judge, and puts the field back.
func mutate(m map[string]any, path string, depth int, judge func(what string, unknown bool)) {
	if path != ".metadata.labels" && path != ".metadata.annotations" && path != ".data" && path != ".parameters" && path != ".spec.hard" && path != ".spec.selector" && path != ".spec.capacity" && path != ".data.spec" {
		m["madeUp"] = true
		judge("with "+path+".madeUp", true)
		delete(m, "madeUp")
	}
	for name, v := range maps.Clone(m) {
		if path == "" && (name == "apiVersion" || name == "kind") {
			continue
		}
		delete(m, name)
		judge("without "+path+"."+name, path == "")
		m[name] = v
		if sub, ok := v.(map[string]any); ok && depth > 1 {
			mutate(sub, path+"."+name, depth-1, judge)
		}
	}
}
