package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// The fuzz targets see that no input makes a parser panic, and that what parses has the shape that callers rely on.

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"/api/v1/pods", "/api/v1/namespaces/default/pods/x/log", "/apis/apps/v1/deployments", "/api/v1/namespaces/x/status", "/apis///", "/api/v1/namespaces//pods"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		target, ok := parseTarget(&url.URL{Path: path})
		if !ok || !target.known {
			return
		}
		if target.kind.Resource != target.resource || target.kind.GVK.GroupVersion() != target.gv {
			t.Errorf("%q: kind %v for %s in %s", path, target.kind, target.resource, target.gv)
		}
		if target.kind.Namespaced && target.name != "" && target.namespace == "" {
			t.Errorf("%q: an object without its namespace", path)
		}
		if !target.kind.Namespaced && target.namespace != "" {
			t.Errorf("%q: a namespace for %s", path, target.resource)
		}
	})
}

func FuzzNegotiate(f *testing.F) {
	for _, s := range []string{"", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", mediaProto + ",application/json;q=0.1", "a/b;q=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept", accept)
		a, err := negotiate(r, true, shapeTable, shapePartial)
		if err == nil && a.media != mediaJSON && a.media != mediaYAML && a.media != mediaProto {
			t.Errorf("%q: agreed on %q", accept, a.media)
		}
		if err == nil && a.shape == shapeTable && a.media == mediaProto {
			t.Errorf("%q: a Table in protobuf", accept)
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	cm := &corev1.ConfigMap{Data: map[string]string{"a": "b"}}
	cm.Name = "x"
	b, err := object.Encode(cm)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint8(0))
	f.Add([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}`), uint8(1))
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\n"), uint8(2))
	k, _ := object.KindOfResource("configmaps")
	f.Fuzz(func(t *testing.T, b []byte, form uint8) {
		media := []string{mediaProto, mediaJSON, mediaYAML}[form%3]
		o, _, err := decodeObject(k, b, media)
		if err == nil && o.GetObjectKind().GroupVersionKind() != k.GVK {
			t.Errorf("decoded a %v", o.GetObjectKind().GroupVersionKind())
		}
	})
}

func FuzzPatch(f *testing.F) {
	for i, s := range []string{`[{"op":"replace","path":"/data/a","value":"c"}]`, `{"data":{"a":null}}`, `{"spec":{"$retainKeys":["a"]}}`} {
		f.Add(s, uint8(i))
	}
	f.Fuzz(func(t *testing.T, body string, form uint8) {
		media := []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}[form%3]
		r := httptest.NewRequest(http.MethodPatch, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", media)
		p, _, err := readPatch(r)
		if err != nil {
			return
		}
		out, err := p([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}`), &corev1.Pod{})
		if err == nil && len(out) == 0 {
			t.Error("a patch made nothing of something")
		}
	})
}

func FuzzPageToken(f *testing.F) {
	f.Add("eyJydiI6OTksImFmdGVyIjoieCJ9")
	f.Fuzz(func(_ *testing.T, token string) {
		var p pages
		//nolint:errcheck // it must not panic; most tokens are refused
		p.find(token, emptyStore{}, time.Time{})
	})
}

type emptyStore struct{ Store }

func (emptyStore) View() View { return emptyView{} }

type emptyView struct{ View }

func (emptyView) Rev() uint64 { return 7 }

// TestFrames holds the frames that are put together by hand against what Kubernetes' own types make and read.
func TestFrames(t *testing.T) {
	cm := &corev1.ConfigMap{Data: map[string]string{"a": strings.Repeat("b", 300)}}
	cm.Name = "x"
	raw, err := cm.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Decode(envelope(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, raw))
	if err != nil || o.(*corev1.ConfigMap).Data["a"] != cm.Data["a"] {
		t.Errorf("envelope: %v, %v", o, err)
	}
}

// TestCacheIsBounded fills the cache over its bound.
func TestCacheIsBounded(t *testing.T) {
	c := newByteCache(100 << 10)
	for i := range 1000 {
		c.put(cacheKey{rev: formatRev(uint64(i))}, make([]byte, 1<<10))
		c.get(cacheKey{rev: "3"})
	}
	total := 0
	for _, m := range []map[cacheKey][]byte{c.now, c.old} {
		for _, b := range m {
			total += len(b)
		}
	}
	if total > 100<<10 {
		t.Errorf("the cache holds %d bytes", total)
	}
	if _, ok := c.get(cacheKey{rev: "3"}); !ok {
		t.Error("what was asked for all the time was dropped")
	}
	if _, ok := c.get(cacheKey{rev: "500"}); ok {
		t.Error("what was not asked for was kept")
	}
}
