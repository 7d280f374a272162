package api_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"testing"

	"k8s.io/client-go/rest"

	"reconcile/api"
	"reconcile/api/apitest"
)

// TestPlainPaths holds what is no resource, and what is said about a request as a whole, against a kube-apiserver's answers.
func TestPlainPaths(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), func(c *api.Config) {
		c.Ready = []api.Check{{Name: "store", Run: func(context.Context) error { return errors.New("it has no leader") }}}
	})
	c := admin(t, s, true, nil)
	for _, x := range []exchange{
		{"GET", "/readyz", "", "", 500, `(?s)\[\+\]ping ok\n\[-\]store failed: .*readyz check failed`},
		{"GET", "/readyz?exclude=store", "", "", 200, `no-cache, private.*\n.*\nok$`},
		{"GET", "/readyz?verbose&exclude=store&exclude=ping", "", "", 200, `\n\[\+\]ping excluded: ok\n\[\+\]store excluded: ok\nreadyz check passed\n$`},
		{"GET", "/livez?verbose&exclude=nonsense&exclude=a", "", "", 200, `\n\[\+\]ping ok\nwarn: some health checks cannot be excluded: no matches for "a", "nonsense"\nlivez check passed\n$`},
		{"GET", "/healthz/ping", "", "", 200, `\nok$`},
		{"GET", "/healthz/none", "", "", 404, `404 page not found`},
		{"POST", "/version", "", "", 405, `the server does not allow this method on the requested resource`},
		{"GET", "//api/v1/namespaces", "", "", 404, `404 page not found`},
		{"GET", "/apis/nope/v1", "", "", 404, `no-cache, private.*\n.*\n404 page not found`},
		{"GET", "/foo", "", "", 404, `no-cache, private.*\nnosniff\n404 page not found`},
		{"GET", "/api/v1/namespaces/default/configmaps?timeout=nope", "", "", 400, `invalid timeout specified in the request URL - time: invalid duration \\"nope\\"`},
		{"GET", "/api/v1/namespaces/default/configmaps?timeout=1ns", "", "", 504, `"message":"Timeout: request did not complete within the allotted timeout"`},
		{"GET", "/api/v1/namespaces/default/configmaps?timeout=30s", "", "", 200, `ConfigMapList`},
		{"GET", "/api/v1/namespaces/default/configmaps?timeout=0s", "", "", 200, `ConfigMapList`},
		{"DELETE", "/api/v1/namespaces/default", "", "", 403, `\nnosniff\n.*this namespace may not be deleted`},
	} {
		x.hold(t, s, c, "Cache-Control", "X-Content-Type-Options")
	}
}

// TestPasswordsAreNotKnown: who says who it is in a way that is not known here is anonymous; a token that is wrong is refused.
func TestPasswordsAreNotKnown(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c, err := rest.HTTPClientFor(rest.AnonymousClientConfig(restConfig(t, s, false)))
	if err != nil {
		t.Fatal(err)
	}
	for auth, want := range map[string]int{"Basic YTpi": http.StatusForbidden, "Bearer a.b.c": http.StatusUnauthorized, "Bearer": http.StatusForbidden, "Nonsense": http.StatusForbidden} {
		res, _ := answer(t, s, c, http.MethodGet, "/api/v1/namespaces", "", map[string]string{"Authorization": auth})
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", auth, res.StatusCode, want)
		}
	}
}

// TestGroupsWithoutAUser: groups or a UID to pass for, without a user, are not simply left aside.
func TestGroupsWithoutAUser(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	for _, header := range []string{"Impersonate-Group", "Impersonate-Uid"} {
		res, _ := answer(t, s, admin(t, s, true, nil), http.MethodGet, "/api/v1/namespaces", "", map[string]string{header: "x"})
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", header, res.StatusCode)
		}
	}
}

// TestDocumentsAreKept: a client that has a document of discovery or OpenAPI is told so, and need not ask again for one that is named by its hash.
func TestDocumentsAreKept(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := admin(t, s, true, nil)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	get := func(path, accept, tag string) (*http.Response, string) {
		t.Helper()
		return answer(t, s, c, http.MethodGet, path, "", map[string]string{"Accept": accept, "If-None-Match": tag})
	}
	for path, accept := range map[string]string{
		"/apis":              "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
		"/openapi/v2":        "application/json",
		"/openapi/v3/api/v1": "application/json",
	} {
		res, body := get(path, accept, "")
		if res.StatusCode != http.StatusOK || res.Header.Get("ETag") == "" || body == "" {
			t.Errorf("%s: %s %v", path, res.Status, res.Header)
		}
		if res, body := get(path, accept, res.Header.Get("ETag")); res.StatusCode != http.StatusNotModified || body != "" {
			t.Errorf("%s a second time: %s, %d bytes", path, res.Status, len(body))
		}
		if res, _ := get(path, accept, `"other"`); res.StatusCode != http.StatusOK {
			t.Errorf("%s with another tag: %s", path, res.Status)
		}
	}
	_, index := get("/openapi/v3", "application/json", "")
	named := regexp.MustCompile(`"(/openapi/v3/apis/apps/v1\?hash=[0-9A-F]+)"`).FindStringSubmatch(index)
	if named == nil {
		t.Fatal(index)
	}
	if res, _ := get(named[1], "application/json", ""); res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "public, immutable" || res.Header.Get("Expires") == "" {
		t.Errorf("%s: %s %v", named[1], res.Status, res.Header)
	}
	if res, _ := get("/openapi/v3/apis/apps/v1?hash=BAD", "application/json", ""); res.StatusCode != http.StatusMovedPermanently || res.Header.Get("Location") != named[1] {
		t.Errorf("a hash of another document: %s %v", res.Status, res.Header)
	}
}
