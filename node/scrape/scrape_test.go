package scrape

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

const answer = `# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{path="buy",code="200"} 10
requests_total{path="buy",code="500"} 2 1395066363000
requests_total{path="look"} 30
# TYPE waiting gauge
waiting{queue="a"} 3.5
  waiting{queue="b"} NaN
waiting_total 99
busy_seconds_total 7
cold -4
# TYPE took histogram
took_bucket{le="+Inf"} 9
took_sum 12
took_count 9
`

// pod is one whose metrics are at u.
func pod(t *testing.T, u string, annotations ...string) *corev1.Pod {
	t.Helper()
	at, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{object.AnnotationScrape: "true", object.AnnotationScrapePort: at.Port(), object.AnnotationScrapeScheme: at.Scheme}}}
	p.Status.PodIP = at.Hostname()
	for _, a := range annotations {
		name, v, _ := strings.Cut(a, "=")
		p.Annotations["prometheus.io/"+name] = v
	}
	return p
}

// TestSeries: which series a name stands for, and which of them count.
func TestSeries(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" && strings.Contains(r.Header.Get("Accept"), "text/plain") {
			fmt.Fprint(w, answer)
		}
	}))
	defer srv.Close()
	s := New()
	defer s.Close()
	for query, want := range map[string]string{
		"requests":                  "requests counter 42",
		"requests_total":            "requests_total counter 42",
		"requests path=buy":         "requests counter 12",
		"requests path in (a,look)": "requests counter 30",
		"requests path=none":        "",
		"waiting":                   "waiting gauge 3.5", // not waiting_total, and what is no number counts for nothing
		"waiting queue=b":           "",
		"busy":                      "busy counter 7",
		"cold":                      "cold gauge -4",
		"took_sum":                  "took_sum gauge 12",
		"took_bucket":               "took_bucket gauge 9",
		"took":                      "",
		"none":                      "",
	} {
		name, sel, _ := strings.Cut(query, " ")
		got, _ := s.one(t.Context(), pod(t, srv.URL), []object.MetricQuery{{Name: name, Selector: sel}})
		text := ""
		for _, x := range got.Samples {
			kind := "gauge"
			if x.Counter {
				kind = "counter"
			}
			text += fmt.Sprint(x.Name, " ", kind, " ", x.Value)
		}
		if text != want || got.Fault != "" || got.At.IsZero() || got.Name != "web" || got.Namespace != "default" {
			t.Errorf("%s: %q (%+v), want %q", query, text, got, want)
		}
	}
}

// TestFaults: what cannot be asked, or answers what nobody can read, says why, and costs no more than its bounds.
func TestFaults(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Store(true) }))
	defer other.Close()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprint(w, answer)
		case "/own":
			if r.URL.RawQuery == "a=b" {
				fmt.Fprint(w, "requests 1\n")
			}
		case "/moved":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/broken":
			fmt.Fprint(w, "requests{path= 1\n")
		case "/huge":
			for range maxAnswer / 1000 {
				fmt.Fprintln(w, "# "+strings.Repeat("x", 1000))
			}
		case "/many":
			for i := range maxKept / 10 {
				fmt.Fprintf(w, "requests{n=\"%d\"} 1\n", i)
			}
		case "/long":
			fmt.Fprintln(w, strings.Repeat("x", maxLine+1))
		default:
			http.NotFound(w, r)
		}
	})
	srv := httptest.NewServer(handler)
	defer srv.Close()
	secure := httptest.NewTLSServer(handler)
	defer secure.Close()
	s := New()
	defer s.Close()
	withPort := pod(t, srv.URL, "port=")
	withPort.Spec.Containers = []corev1.Container{{}, {Ports: []corev1.ContainerPort{{ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {ContainerPort: 1}}}}
	homeless := pod(t, srv.URL)
	homeless.Status.PodIP = ""
	for name, c := range map[string]struct {
		pod   *corev1.Pod
		fault string
	}{
		"well":     {pod(t, srv.URL), ""},
		"https":    {pod(t, secure.URL), ""},
		"path":     {pod(t, srv.URL, "path=/own?a=b"), ""},
		"closed":   {pod(t, srv.URL, "scrape=false"), `it has no annotation prometheus.io/scrape: "true"`},
		"homeless": {homeless, "it has no address"},
		"scheme":   {pod(t, srv.URL, "scheme=ftp"), `annotation prometheus.io/scheme is "ftp": want http or https`},
		"port":     {pod(t, srv.URL, "port=web"), `annotation prometheus.io/port is "web": want a port`},
		"no port":  {pod(t, srv.URL, "port="), "it has no annotation prometheus.io/port, and no container with a port"},
		"own port": {withPort, ":1/metrics"},
		"host":     {pod(t, srv.URL, "path=//evil/metrics"), "want a path that begins with /"},
		"url":      {pod(t, srv.URL, "path=http://evil/metrics"), "want a path that begins with /"},
		"missing":  {pod(t, srv.URL, "path=/none"), "answers 404 Not Found"},
		"moved":    {pod(t, srv.URL, "path=/moved"), "answers 302 Found"},
		"broken":   {pod(t, srv.URL, "path=/broken"), "/broken: "},
		"huge":     {pod(t, srv.URL, "path=/huge"), "more than 16 MiB"},
		"many":     {pod(t, srv.URL, "path=/many"), "more than 1024 KiB"},
		"long":     {pod(t, srv.URL, "path=/long"), "token too long"},
	} {
		got, _ := s.one(t.Context(), c.pod, []object.MetricQuery{{Name: "requests"}})
		if (c.fault == "") != (got.Fault == "") || !strings.Contains(got.Fault, c.fault) || (len(got.Samples) == 1) != (c.fault == "") {
			t.Errorf("%s: %+v, want %q", name, got, c.fault)
		}
	}
	if elsewhere.Load() {
		t.Error("a redirect was followed")
	}
}

// FuzzPod: whatever a pod answers, it is read or refused, and nothing that is no number is told.
func FuzzPod(f *testing.F) {
	f.Add(answer, "requests", "path=buy")
	f.Add("a{b=\"c\",} 1\na NaN\na +Inf\n", "a", "")
	f.Fuzz(func(t *testing.T, text, name, selector string) {
		queries := []object.MetricQuery{{Name: name, Selector: selector}, {Name: "requests"}}
		lines, err := pick(strings.NewReader(text), queries)
		if err != nil {
			return
		}
		got, err := sums(strings.NewReader(string(lines)), queries)
		if err == nil && len(got) > len(queries) {
			t.Errorf("%d samples for %d queries", len(got), len(queries))
		}
		for _, x := range got {
			if x.Value-x.Value != 0 {
				t.Errorf("%q has %v", x.Name, x.Value)
			}
		}
	})
}
