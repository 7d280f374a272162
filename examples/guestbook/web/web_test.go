package main

import (
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// fakeStore keeps entries as the store does, in memory.
func fakeStore(t *testing.T) *httptest.Server {
	var lines []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /entries", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "["+strings.Join(lines, ",")+"]")
	})
	mux.HandleFunc("POST /entries", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		lines = append(lines, string(b))
		w.WriteHeader(http.StatusCreated)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestPage(t *testing.T) {
	store := fakeStore(t)
	w := &web{title: "Guests", pod: "web-1", store: store.URL, client: store.Client(), tmpl: template.Must(template.New("page").Parse(page))}
	srv := httptest.NewServer(w.handler())
	defer srv.Close()
	get := func() string {
		res, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	if body := get(); !strings.Contains(body, "nobody has signed yet") || !strings.Contains(body, "answered by web-1") {
		t.Errorf("empty page is %s", body)
	}
	res, err := http.PostForm(srv.URL, url.Values{"name": {"Ada"}, "text": {"<hello>"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if body := get(); !strings.Contains(body, "<b>Ada</b>: &lt;hello&gt;") {
		t.Errorf("page after signing is %s", body)
	}
	store.Close()
	if body := get(); !strings.Contains(body, "ask the store") {
		t.Errorf("page without a store is %s, want the reason", body)
	}
}
