package object

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

func tree(t testing.TB, doc string) map[string]any {
	t.Helper()
	m, err := MapOf([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func kind(t testing.TB, resource string) Kind {
	t.Helper()
	k, ok := KindOfResource(resource)
	if !ok {
		t.Fatal(resource)
	}
	return k
}

func TestDiff(t *testing.T) {
	const old = `{"kind":"Pod","metadata":{"name":"p","uid":"1","labels":{"a":"1","b.c/d":"2"},"annotations":{"reconcile.local/file":"x:1"}},
		"spec":{"containers":[{"name":"a","image":"1"},{"name":"b","image":"1","args":["x"]}],"tolerations":[{"key":"k"}]},"status":{"phase":"Running"}}`
	for _, tc := range []struct{ name, new, want string }{
		{"same", old, ""},
		{"status and marks", strings.NewReplacer("Running", "Failed", "x:1", "y:2", `"uid":"1"`, `"uid":"2"`).Replace(old), ""},
		{"label with dots", strings.Replace(old, `"2"`, `"3"`, 1), `metadata.labels[b.c/d] metadata.labels[b.c/d] "2" "3"`},
		{"reorder", strings.Replace(old, `{"name":"a","image":"1"},{"name":"b","image":"1","args":["x"]}`, `{"name":"b","image":"1","args":["x"]},{"name":"a","image":"1"}`, 1), ""},
		{"item in front", strings.Replace(old, `"containers":[`, `"containers":[{"name":"z","image":"9"},`, 1),
			`spec.containers[z].image spec.containers[0].image null "9"; spec.containers[z].name spec.containers[0].name null "z"`},
		{"item gone", strings.Replace(old, `{"name":"a","image":"1"},`, ``, 1),
			`spec.containers[a].image spec.containers[0].image "1" null; spec.containers[a].name spec.containers[0].name "a" null`},
		{"atomic list", strings.Replace(old, `["x"]`, `["x","y"]`, 1), `spec.containers[b].args spec.containers[1].args ["x"] ["x","y"]`},
		{"structs in an atomic list", strings.Replace(old, `[{"key":"k"}]`, `[]`, 1), `spec.tolerations spec.tolerations [{"key":"k"}] []`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, d := range Diff(kind(t, "pods"), tree(t, old), tree(t, tc.new)) {
				a, err := json.Marshal(d.Old)
				if err != nil {
					t.Fatal(err)
				}
				b, err := json.Marshal(d.New)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, d.Path+" "+d.Index+" "+string(a)+" "+string(b))
			}
			if text := strings.Join(got, "; "); text != tc.want {
				t.Errorf("got  %s\nwant %s", text, tc.want)
			}
		})
	}
}

func TestOwns(t *testing.T) {
	f, err := ParseFields([]byte(`{"f:spec":{"f:replicas":{},"f:selector":{},"f:l":{"k:{\"name\":\"a\"}":{".":{},"f:x":{}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"f:spec f:replicas":               true,
		"f:spec f:selector f:matchLabels": true,
		"f:spec f:paused":                 false,
		"f:spec":                          true,
		`f:spec f:l k:{"name":"a"}`:       true,
		`f:spec f:l k:{"name":"a"} f:x`:   true,
		`f:spec f:l k:{"name":"a"} f:y`:   false,
		`f:spec f:l k:{"name":"b"}`:       false,
		"f:metadata f:labels":             false,
	} {
		if got := f.Owns(strings.Fields(path)); got != want {
			t.Errorf("Owns(%s) = %v", path, got)
		}
	}
	if again := string(f.Append(nil)); again != `{"f:spec":{"f:l":{"k:{\"name\":\"a\"}":{".":{},"f:x":{}}},"f:replicas":{},"f:selector":{}}}` {
		t.Errorf("written as %s", again)
	}
}

// drawDeployment draws a partial Deployment, as a file may hold.
func drawDeployment(t *rapid.T) map[string]any {
	doc := map[string]any{}
	spec := map[string]any{}
	if rapid.Bool().Draw(t, "replicas") {
		spec["replicas"] = rapid.Int64Range(0, 3).Draw(t, "n")
	}
	if rapid.Bool().Draw(t, "labels") {
		l := map[string]any{}
		for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID[string]).Draw(t, "names") {
			l[n] = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value")
		}
		doc["metadata"] = map[string]any{"labels": l}
	}
	var containers []any
	for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), rapid.ID[string]).Draw(t, "containers") {
		c := map[string]any{"name": n, "image": rapid.SampledFrom([]string{"1", "2"}).Draw(t, "image")}
		if rapid.Bool().Draw(t, "port") {
			c["ports"] = []any{map[string]any{"containerPort": rapid.Int64Range(1, 3).Draw(t, "number")}}
		}
		if rapid.Bool().Draw(t, "args") {
			c["args"] = []any{rapid.SampledFrom([]string{"p", "q"}).Draw(t, "arg")}
		}
		containers = append(containers, c)
	}
	if containers != nil {
		spec["template"] = map[string]any{"spec": map[string]any{"containers": containers}}
	}
	doc["spec"] = spec
	return doc
}

func clone(t *rapid.T, m map[string]any) map[string]any {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	c, err := MapOf(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMergeProperties: applying one file after the other gives what the last file says where nobody else wrote; what a file does not
// own stays; applying again changes nothing.
func TestMergeProperties(t *testing.T) {
	k := kind(t, "deployments")
	rapid.Check(t, func(rt *rapid.T) {
		first, second := drawDeployment(rt), drawDeployment(rt)
		live := Merge(k, nil, clone(rt, first), nil)
		foreign := map[string]any{"paused": true}
		live["spec"].(map[string]any)["paused"] = foreign["paused"]
		got := Merge(k, live, clone(rt, second), FieldsOf(k, first))
		want := Merge(k, nil, clone(rt, second), nil)
		want["spec"].(map[string]any)["paused"] = true
		if diffs := Diff(k, got, want); len(diffs) > 0 {
			rt.Fatalf("first %v\nsecond %v\ngot %v\nwant %v\ndiff %+v", first, second, got, want, diffs)
		}
		again := Merge(k, clone(rt, got), clone(rt, second), FieldsOf(k, second))
		if !reflect.DeepEqual(again, got) && len(Diff(k, again, got)) > 0 {
			rt.Fatalf("applying again changed %v to %v", got, again)
		}
		owned := FieldsOf(k, second)
		for _, d := range Diff(k, map[string]any{}, second) {
			if !owned.Owns(d.Elements) {
				rt.Fatalf("%s is set by the file and not owned: %s", d.Path, owned.Append(nil))
			}
		}
	})
}

// TestKeyedLists holds the tags of Kubernetes' types to what the merge relies on.
func TestKeyedLists(t *testing.T) {
	spec := shapeOf(reflect.TypeFor[corev1.PodSpec](), map[reflect.Type]*shape{})
	for field, keys := range map[string]string{"containers": "name", "initContainers": "name", "volumes": "name", "imagePullSecrets": "name", "hostAliases": "ip", "topologySpreadConstraints": "topologyKey whenUnsatisfiable"} {
		if got := strings.Join(spec.fields[field].keys, " "); got != keys {
			t.Errorf("%s is keyed by %q, want %q", field, got, keys)
		}
	}
	if !spec.fields["volumes"].elem.retainKeys || !shapeOf(reflect.TypeFor[appsv1.DeploymentSpec](), map[reflect.Type]*shape{}).fields["strategy"].retainKeys {
		t.Error("volumes and strategies hold alternatives")
	}
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"a"},{"name":"a"}]}}`), []byte(`{"spec":{"containers":{"name":1}}}`))
	f.Add([]byte(`{"spec":{"ports":[{"port":null}]},"metadata":[]}`), []byte(`{"metadata":{"annotations":3}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, err := MapOf(a)
		if err != nil {
			t.Skip()
		}
		y, err := MapOf(b)
		if err != nil {
			t.Skip()
		}
		for _, r := range []string{"deployments", "services", "secrets"} {
			k := kind(t, r)
			if d := Diff(k, x, x); len(d) > 0 {
				t.Fatalf("a tree differs from itself: %+v", d)
			}
			Diff(k, x, y)
			fields := FieldsOf(k, x)
			if _, err := ParseFields(fields.Append(nil)); err != nil {
				t.Fatal(err)
			}
			Merge(k, y, x, fields)
		}
	})
}
