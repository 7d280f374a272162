package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

// wireTest speaks to the API as no client library does: the bytes themselves are looked at.
type wireTest struct {
	*testing.T
	client *http.Client
	base   string
}

// do sends a request and returns the answer's body; it fails the test if the code is another.
func (w wireTest) do(method, path, media, accept string, body []byte, want int) []byte {
	w.Helper()
	code, b := w.ask(method, path, media, accept, body)
	if code != want {
		w.Fatalf("%s %s: %d, want %d: %.600s", method, path, code, want, b)
	}
	return b
}

// ask sends a request and returns its code and body.
func (w wireTest) ask(method, path, media, accept string, body []byte) (int, []byte) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, w.base+path, bytes.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Accept", accept)
	res, err := w.client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res.StatusCode, b
}

// TestEveryKind takes a good object of every kind and version through the API in JSON, YAML and protobuf, on the real store: create,
// get, table, list, update, patches, server-side apply, watch, deletion.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	all, err := os.ReadFile("../admission/testdata/kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := startReal(t)
	rc, err := rest.HTTPClientFor(restConfig(t, s, false))
	if err != nil {
		t.Fatal(err)
	}
	c := typed(t, s, false)
	eventually(t, "the preset namespaces", func() bool {
		_, err := c.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	seen := map[string]bool{}
	for _, doc := range splitDocs(all) {
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatal(err)
		}
		k, ok := object.KindOf(meta.GroupVersionKind())
		if !ok {
			t.Fatalf("%s is not served", meta.GroupVersionKind())
		}
		seen[k.GVK.String()] = true
		t.Run(k.Resource+"."+k.GVK.GroupVersion().String(), func(t *testing.T) {
			t.Parallel()
			oneKind(wireTest{t, rc, s.URL}, k, doc, meta.Name)
		})
	}
	for _, k := range object.Served() {
		if !seen[k.GVK.String()] && k.GVK.Group != object.GroupVersion.Group {
			t.Errorf("no object of %s was tried", k.GVK)
		}
	}
}

func oneKind(w wireTest, k object.Kind, doc []byte, name string) {
	const anyJSON = "application/json"
	list := "/apis/" + k.GVK.GroupVersion().String() + "/"
	if k.GVK.Group == "" {
		list = "/api/v1/"
	}
	if k.Namespaced {
		list += "namespaces/default/"
	}
	list += k.Resource
	one := list + "/" + name
	decode := func(b []byte) object.Object {
		w.Helper()
		o := k.New()
		if err := json.Unmarshal(b, o); err != nil {
			w.Fatalf("%v: %.300s", err, b)
		}
		if o.GetObjectKind().GroupVersionKind() != k.GVK {
			w.Fatalf("kind %s, want %s", o.GetObjectKind().GroupVersionKind(), k.GVK)
		}
		return o
	}
	made := decode(w.do(http.MethodPost, list+"?fieldValidation=Strict", "application/yaml", anyJSON, doc, http.StatusCreated))
	if made.GetUID() == "" || made.GetResourceVersion() == "" || made.GetCreationTimestamp().Time.IsZero() {
		w.Errorf("made without its metadata: %v", made)
	}
	w.do(http.MethodPost, list, "application/yaml", anyJSON, doc, http.StatusConflict)
	w.sameInEveryForm(k, one, decode)

	var table metav1.Table
	if err := json.Unmarshal(w.do(http.MethodGet, one, anyJSON, "application/json;as=Table;v=v1;g=meta.k8s.io", nil, 200), &table); err != nil {
		w.Fatal(err)
	}
	if len(table.Rows) != 1 || len(table.Rows[0].Cells) != len(table.ColumnDefinitions) {
		w.Errorf("table: %+v", table)
	}
	if b := w.do(http.MethodGet, list, anyJSON, anyJSON, nil, 200); !bytes.Contains(b, []byte(`"kind":"`+k.GVK.Kind+`List"`)) || !bytes.Contains(b, []byte(`"`+name+`"`)) {
		w.Errorf("list: %.400s", b)
	}
	w.do(http.MethodGet, list+"?fieldSelector=spec.madeup%3D1", anyJSON, anyJSON, nil, http.StatusBadRequest)

	label := []byte(`{"metadata":{"labels":{"tried":"yes"}}}`)
	if k.Resource == "events" || k.Resource == "ipaddresses" {
		label = []byte(`{"metadata":{"annotations":{"tried":"yes"}}}`)
	}
	w.do(http.MethodPatch, one, "application/merge-patch+json", anyJSON, label, 200)
	w.do(http.MethodPatch, one, "application/strategic-merge-patch+json", anyJSON, label, 200)
	applied, err := json.Marshal(map[string]any{"apiVersion": k.GVK.GroupVersion().String(), "kind": k.GVK.Kind, "metadata": map[string]any{"name": name, "annotations": map[string]string{"applied": "yes"}}})
	if err != nil {
		w.Fatal(err)
	}
	got := decode(w.do(http.MethodPatch, one+"?fieldManager=tester", "application/apply-patch+yaml", anyJSON, applied, 200))
	if got.GetAnnotations()["applied"] != "yes" || len(got.GetManagedFields()) == 0 {
		w.Errorf("after an apply: %v", got.GetManagedFields())
	}
	if k.Status {
		w.do(http.MethodPatch, one+"/status", "application/merge-patch+json", anyJSON, []byte(`{}`), 200)
	}
	w.update(one)
	watched := w.firstEvent(list + "?watch=true&fieldSelector=metadata.name%3D" + name)
	if !bytes.Contains(watched, []byte(`{"type":"ADDED","object":`)) || !bytes.Contains(watched, []byte(`"apiVersion":"`+k.GVK.GroupVersion().String()+`"`)) {
		w.Errorf("watch: %.300s", watched)
	}
	w.do(http.MethodDelete, one, anyJSON, anyJSON, []byte(`{"gracePeriodSeconds":0,"propagationPolicy":"Background"}`), 200)
}

// update reads an object and writes it back as it is. Controllers run on the real store and may write it in between, as they do the claim that a
// volume is bound to: then it is a conflict, and only then it is tried again.
func (w wireTest) update(path string) {
	w.Helper()
	const anyJSON = "application/json"
	for range 20 {
		before := w.do(http.MethodGet, path, anyJSON, anyJSON, nil, 200)
		code, again := w.ask(http.MethodPut, path, anyJSON, anyJSON, before)
		switch {
		case code == http.StatusConflict:
			continue
		case code != http.StatusOK || !json.Valid(again):
			w.Fatalf("PUT %s: %d: %.300s", path, code, again)
		}
		return
	}
	w.Fatalf("PUT %s: a conflict each time", path)
}

// firstEvent opens a watch, reads one event and hangs up.
func (w wireTest) firstEvent(path string) []byte {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, w.base+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	res, err := w.client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadBytes('\n')
	if err != nil {
		w.Fatalf("watch: %v", err)
	}
	return line
}

// sameInEveryForm reads one object as JSON, YAML and protobuf, and expects the same.
func (w wireTest) sameInEveryForm(k object.Kind, path string, decode func([]byte) object.Object) {
	w.Helper()
	plain, asYAML, proto := w.inEveryForm(path)
	want := decode(plain)
	y, err := yaml.YAMLToJSON(asYAML)
	if err != nil {
		w.Fatal(err)
	}
	if got := decode(y); !equality.Semantic.DeepEqual(want, got) {
		w.Errorf("as YAML: %s", cmp.Diff(want, got))
	}
	raw, ok := bytes.CutPrefix(proto, []byte("k8s\x00"))
	if !ok {
		w.Fatal("protobuf without its prefix")
	}
	var u runtime.Unknown
	if err := u.Unmarshal(raw); err != nil {
		w.Fatal(err)
	}
	got := k.New()
	if err := got.(interface{ Unmarshal([]byte) error }).Unmarshal(u.Raw); err != nil {
		w.Fatal(err)
	}
	got.GetObjectKind().SetGroupVersionKind(k.GVK)
	if s, ok := want.(*appsv1.StatefulSet); ok { // protobuf tells no types of parts
		for i := range s.Spec.VolumeClaimTemplates {
			s.Spec.VolumeClaimTemplates[i].TypeMeta = metav1.TypeMeta{}
		}
	}
	if !equality.Semantic.DeepEqual(want, got) {
		w.Errorf("as protobuf: %s", cmp.Diff(want, got))
	}
}

// inEveryForm reads one state of an object in three forms: again, if a controller has written it meanwhile.
func (w wireTest) inEveryForm(path string) (plain, asYAML, proto []byte) {
	w.Helper()
	get := func(accept string) []byte { return w.do(http.MethodGet, path, "", accept, nil, 200) }
	for range 20 {
		plain, asYAML, proto = get("application/json"), get("application/yaml"), get("application/vnd.kubernetes.protobuf")
		if bytes.Equal(get("application/json"), plain) {
			return plain, asYAML, proto
		}
	}
	w.Fatalf("%s is never the same twice", path)
	return nil, nil, nil
}
