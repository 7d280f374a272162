package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"

	"reconcile/admission"
	"reconcile/api/table"
	"reconcile/object"
)

// FuzzShow reads whatever JSON as an object of every kind and shows it: as a row, as what can be selected, as a Scale, in each version.
func FuzzShow(f *testing.F) {
	kinds := object.Served()
	for i := range kinds {
		f.Add([]byte(`{"metadata":{"name":"x","creationTimestamp":"2024-01-02T03:04:05Z"},"spec":{"replicas":1,"template":{"spec":{"containers":[{}]}}},"status":{"conditions":[{}]}}`), uint8(i))
	}
	f.Add([]byte(`{"status":{"containerStatuses":[{"state":{"terminated":{"signal":9}}}],"initContainerStatuses":[{"lastState":{}}]}}`), uint8(8))
	now := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		k := kinds[int(kind)%len(kinds)]
		o, _, err := decodeObject(k, b, mediaJSON)
		if err != nil {
			return
		}
		x, err := admission.Convert(o, k.Stored())
		if err != nil {
			return
		}
		p := table.For(k.Resource)
		if row := p.Row(x, now); len(row) != len(p.Columns) {
			t.Errorf("%d cells for %d columns", len(row), len(p.Columns))
		}
		set, known := fieldsOf(k)
		for name := range set(x) {
			if !known[name] {
				t.Errorf("%q is selected by, and not known", name)
			}
		}
		if k.Scale {
			if _, err := scaleOf(x); err != nil {
				t.Error(err)
			}
		}
		for _, v := range kinds {
			if v.Resource != k.Resource {
				continue
			}
			if _, err := (encoder{newByteCache(1 << 20), newByteCache(1 << 20)}).bytes(x, v, encodeJSON, fleeting); err != nil {
				t.Errorf("as %v: %v", v.GVK, err)
			}
		}
	})
}

// FuzzManaged lets a client send whatever for an object's managedFields, and whatever for the name of the manager: the write is noted, and what is
// noted can be read.
func FuzzManaged(f *testing.F) {
	f.Add([]byte(`{"f:data":{"f:k":{}}}`), "one", "v1", "Update", "kubectl/v1.36 (linux)")
	f.Add([]byte(`{"f:data":{"k:{\"a\":1}":{}}}`), "", "apps/v1", "Apply", "\x00\xff/")
	f.Add([]byte(`[`), "git:cluster", "", "", "git:git:x")
	k, ok := object.KindOfResource("configmaps")
	if !ok {
		f.Fatal("no config maps")
	}
	var managers fieldManagers
	m, err := managers.of(k, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, fields []byte, manager, version, operation, agent string) {
		name := agentName(agent)
		if len(name) > validation.FieldManagerMaxLength || strings.HasPrefix(name, gitManagers) {
			t.Errorf("%q is called %q", agent, name)
		}
		old := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "d"}, Data: map[string]string{"k": "v"}}
		o := old.DeepCopy()
		o.Data["l"] = "w"
		o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: manager, APIVersion: version, Operation: metav1.ManagedFieldsOperationType(operation), FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(string(fields))}}
		done, ok := m.UpdateNoErrors(old, o, name).(*corev1.ConfigMap)
		if !ok || done.Data["l"] != "w" {
			t.Fatalf("the write was lost: %v", done)
		}
		for _, e := range done.ManagedFields {
			if _, err := object.ParseFields(e.FieldsV1.GetRawBytes()); err != nil {
				t.Errorf("what is noted of %q cannot be read: %v", e.Manager, err)
			}
		}
		keepTimes(done, o)
	})
}

// FuzzApplied gives whatever bytes and query to the reader of a server-side apply, of each kind: what is taken is of the kind and at its place.
func FuzzApplied(f *testing.F) {
	kinds := object.Served()
	for i, k := range kinds {
		f.Add([]byte(`{"apiVersion":"`+k.GVK.GroupVersion().String()+`","kind":"`+k.GVK.Kind+`","metadata":{"name":"x"}}`), "fieldManager=m", uint8(i))
	}
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: other}\ndata: {a: b, a: c}\n"), "fieldManager=m&fieldValidation=Strict&force=true", uint8(0))
	f.Add([]byte("&a [*a"), "", uint8(0))
	s := &Server{}
	f.Fuzz(func(t *testing.T, b []byte, query string, kind uint8) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		k := kinds[int(kind)%len(kinds)]
		to := target{kind: k, known: true, gv: k.GVK.GroupVersion(), resource: k.Resource, name: "x", query: q}
		if k.Namespaced {
			to.namespace = "d"
		}
		r := httptest.NewRequest(http.MethodPatch, "/", nil)
		r.URL.RawQuery = q.Encode()
		r.Body = io.NopCloser(bytes.NewReader(b))
		in, err := s.readApply(httptest.NewRecorder(), r, to)
		if err != nil {
			return
		}
		if in.doc.GetName() != "x" || in.doc.GroupVersionKind() != k.GVK || in.doc.GetNamespace() != "" && in.doc.GetNamespace() != to.namespace {
			t.Errorf("%s %s/%s was taken", in.doc.GroupVersionKind(), in.doc.GetNamespace(), in.doc.GetName())
		}
	})
}
