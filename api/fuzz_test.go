package api

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
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
	for _, s := range []string{"", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", mediaProto + ",application/json;q=0.1", "a/b;q=x"} {
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

// FuzzDecodeObject gives bytes to every kind's decoder in every form. What is decoded can be encoded, and is the same then.
func FuzzDecodeObject(f *testing.F) {
	kinds := object.Served()
	for i, k := range kinds {
		o := k.New()
		o.SetName("x")
		j, err := encodeAs(o, encodeJSON)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(j, uint8(1), uint8(i))
		if hasProto(k) {
			raw, err := encodeAs(o, encodeProto)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(envelope(k.GVK, raw), uint8(0), uint8(i))
		}
	}
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\n"), uint8(2), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, form, kind uint8) {
		k := kinds[int(kind)%len(kinds)]
		o, _, err := decodeObject(k, b, []string{mediaProto, mediaJSON, mediaYAML}[form%3])
		if err != nil {
			return
		}
		if o.GetObjectKind().GroupVersionKind() != k.GVK {
			t.Errorf("decoded a %v", o.GetObjectKind().GroupVersionKind())
		}
		if _, err := encodeAs(o, encodeJSON); err != nil {
			t.Errorf("what was decoded cannot be encoded: %v", err)
		}
	})
}

// FuzzDecodePlain gives bytes to the decoders of what is never stored.
func FuzzDecodePlain(f *testing.F) {
	bodies := []func() runtime.Object{
		func() runtime.Object { return &metav1.DeleteOptions{} }, func() runtime.Object { return &autoscalingv1.Scale{} },
		func() runtime.Object { return &corev1.Binding{} }, func() runtime.Object { return &policyv1.Eviction{} },
		func() runtime.Object { return &authenticationv1.TokenRequest{} }, func() runtime.Object { return &authenticationv1.TokenReview{} },
		func() runtime.Object { return &authorizationv1.SubjectAccessReview{} },
	}
	grace := int64(3)
	raw, err := (&metav1.DeleteOptions{GracePeriodSeconds: &grace}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope(schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, raw), uint8(0), uint8(0))
	f.Add([]byte(`{"gracePeriodSeconds":3,"preconditions":{"uid":"x"}}`), uint8(1), uint8(0))
	f.Add([]byte(`spec: {replicas: 3}`), uint8(2), uint8(1))
	f.Add([]byte(`{"spec":{"audiences":["a"],"boundObjectRef":{"kind":"Pod"}}}`), uint8(1), uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, form, kind uint8) {
		into := bodies[int(kind)%len(bodies)]()
		if err := decodePlain(b, []string{mediaProto, mediaJSON, mediaYAML}[form%3], into); err != nil {
			return
		}
		switch o := into.(type) {
		case *metav1.DeleteOptions:
			if _, dry, err := checkDelete(o, nil); err == nil && (dry != (len(o.DryRun) > 0) || o.PropagationPolicy != nil && o.OrphanDependents != nil) { //nolint:staticcheck // kubectl still sends it
				t.Errorf("options %v were taken", o)
			}
		case *authenticationv1.TokenRequest:
			if err := completeTokenRequest(o, &corev1.ServiceAccount{}); err == nil && (*o.Spec.ExpirationSeconds < tokenLeast || *o.Spec.ExpirationSeconds > tokenMost || len(o.Spec.Audiences) == 0) {
				t.Errorf("request %v was taken", o)
			}
		}
	})
}

// FuzzListOptions gives whatever query to lists and watches of every kind: what is taken selects, and is bounded.
func FuzzListOptions(f *testing.F) {
	for _, s := range []string{"labelSelector=a%3Db,c!%3Dd,e+in+(f,g)&limit=3", "fieldSelector=spec.nodeName%3Dx&watch=1", "resourceVersion=7&resourceVersionMatch=Exact", "limit=-1", "continue=eyJ9", "timeoutSeconds=9&sendInitialEvents=true&watch=true&resourceVersionMatch=NotOlderThan"} {
		f.Add(s, uint8(0))
	}
	kinds := object.Served()
	f.Fuzz(func(t *testing.T, query string, kind uint8) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		k := kinds[int(kind)%len(kinds)]
		o, err := parseListOptions(target{kind: k, query: q})
		if err != nil {
			return
		}
		if o.Limit < 0 || o.TimeoutSeconds != nil && *o.TimeoutSeconds < 0 {
			t.Errorf("%q: limit %d, timeout %v", query, o.Limit, o.TimeoutSeconds)
		}
		x := k.Stored().New()
		x.SetName("x")
		if o.sel.everything() && !o.sel.matches(x) {
			t.Errorf("%q selects everything, and not an object", query)
		}
	})
}

// FuzzPatch gives whatever for a patch of whatever object of a kind: it is refused, or makes a document that can be decoded or is refused.
func FuzzPatch(f *testing.F) {
	const secret = "Ym9hcmQ="
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}}`
	for i, s := range []string{`[{"op":"replace","path":"/data/a","value":"c"}]`, `{"data":{"a":null}}`, `{"spec":{"$retainKeys":["a"]}}`, `[{"op":"copy","from":"","path":"/metadata/labels/~0~1"}]`,
		`{"spec":{"containers":null}}`, `{"spec":{"$setElementOrder/containers":[{"name":"c"}],"containers":[{"$patch":"delete","name":"c"}]}}`, `[{"op":"test","path":"/spec/containers/-1"}]`,
		`[]`, `{"spec":{"containers":[{"$patch":"replace"},{"name":"d","ports":[{"containerPort":81,"$patch":"merge"}]}],"$deleteFromPrimitiveList/x":["a"]}}`} {
		f.Add(s, pod, uint8(i), uint8(0))
	}
	kinds := object.Served()
	for i, k := range kinds {
		if k.Resource == "secrets" {
			f.Add(`{"data":{"l":5}}`, `{"metadata":{"name":"x"},"data":{"k":"`+secret+`"}}`, uint8(2), uint8(i))
			f.Add(`[{"op":"add","path":"/data/l","value":5}]`, `{"metadata":{"name":"x"},"data":{"k":"`+secret+`"}}`, uint8(0), uint8(i))
		}
		if k.Resource == "pods" {
			f.Add(`{"metadata":{"finalizers":["a"],"$deleteFromPrimitiveList/finalizers":["b"]}}`, pod, uint8(2), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, body, doc string, form, kind uint8) {
		k := kinds[int(kind)%len(kinds)]
		o, _, err := decodeObject(k, []byte(doc), mediaJSON)
		if err != nil {
			return
		}
		old, err := encodeAs(o, encodeJSON)
		if err != nil {
			t.Fatal(err)
		}
		media := []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}[form%3]
		p, _, err := parsePatch([]byte(body), media)
		if err != nil {
			return
		}
		into := k.New()
		_, err = p.onto(old, into, func(out []byte) ([]error, error) {
			if len(out) == 0 {
				t.Error("a patch made nothing of something")
			}
			return decodeJSON(k, out, into)
		})
		if err != nil {
			if strings.Contains(err.Error(), secret) && !strings.Contains(body, secret) {
				t.Errorf("the refusal of %s shows the document: %v", body, err)
			}
			return
		}
		if _, err := encodeAs(into, encodeJSON); err != nil {
			t.Errorf("what the patch made cannot be encoded: %v", err)
		}
	})
}

func FuzzPageToken(f *testing.F) {
	f.Add("eyJydiI6OTksImFmdGVyIjoieCJ9")
	f.Fuzz(func(t *testing.T, token string) {
		read, err := readToken(token)
		if err != nil {
			return // most tokens are refused
		}
		if again, err := readToken(read.encode()); err != nil || again != read {
			t.Errorf("%+v was written and read as %+v, %v", read, again, err)
		}
	})
}

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

// sink keeps what is written to a connection.
type sink struct {
	net.Conn
	written bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) { return s.written.Write(b) }

// FuzzForwardUpgrade: whatever a client says beside its request for a stream, the agent is sent one request for that stream, without the client's
// credentials.
func FuzzForwardUpgrade(f *testing.F) {
	f.Add("command=ls&container=c", "Sec-WebSocket-Protocol", "v5.channel.k8s.io")
	f.Add("ports=80", "Authorization", "Bearer x")
	f.Add("", "Impersonate-User", "x")
	f.Add("a=b%0d%0aX:%20y", "X-Stream-Protocol-Version", "v4.channel.k8s.io")
	f.Fuzz(func(t *testing.T, query, name, value string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET /x HTTP/1.1\r\nHost: h\r\n" + name + ": " + value + "\r\n\r\n")))
		if err != nil {
			return
		}
		conn := &sink{}
		if err := forwardUpgrade(conn, r, "agent:10250", "/exec/ns/pod/c", q); err != nil {
			t.Fatal(err)
		}
		sent := bufio.NewReader(&conn.written)
		got, err := http.ReadRequest(sent)
		if err != nil {
			t.Fatalf("what is sent is no request: %v", err)
		}
		if got.URL.Path != "/exec/ns/pod/c" || got.Host != "agent:10250" || got.Method != http.MethodGet {
			t.Errorf("the agent is asked for %s %s of %s", got.Method, got.URL.Path, got.Host)
		}
		if got.Header.Get("Authorization") != "" || got.Header.Get("Impersonate-User") != "" {
			t.Errorf("the agent is given %v", got.Header)
		}
		if rest, err := io.ReadAll(sent); err != nil || len(rest) > 0 {
			t.Errorf("after the request comes %q (%v)", rest, err)
		}
	})
}
