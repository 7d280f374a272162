package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/pki"
)

// impatient is a server that waits 500 ms for clients to read, and its metrics.
func impatient(t *testing.T, change func(*api.Config)) (*apitest.Server, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	return apitest.Start(t, apitest.New(), func(c *api.Config) {
		c.Registerer, c.WriteTimeout = reg, 1500*time.Millisecond
		if change != nil {
			change(c)
		}
	}), reg
}

// metric sums a metric over its labels.
func metric(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// admin is an HTTP client with a connection of its own. stall, if not nil, keeps it from reading the connection.
func admin(t *testing.T, s *apitest.Server, http2 bool, stall <-chan struct{}) *http.Client {
	t.Helper()
	id, err := s.Authority.Identity(pki.AdminSpec())
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	cfg := &tls.Config{Certificates: []tls.Certificate{id.Cert}, RootCAs: s.Authority.Pool(), ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if http2 {
		cfg.NextProtos = []string{"h2"}
	}
	tr := &http.Transport{TLSClientConfig: cfg, Protocols: &p, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil || stall == nil {
			return c, err
		}
		return &stalled{Conn: c, stall: stall, left: 256 << 10, closed: make(chan struct{})}, nil
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// stalled is a connection that gives its reader so many bytes and then none until stall is closed.
type stalled struct {
	net.Conn
	stall  <-chan struct{}
	closed chan struct{}
	left   int
}

// Read implements net.Conn.
func (s *stalled) Read(p []byte) (int, error) {
	if s.left <= 0 {
		select {
		case <-s.stall:
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	n, err := s.Conn.Read(p)
	s.left -= n
	return n, err
}

// Close implements net.Conn.
func (s *stalled) Close() error {
	close(s.closed)
	return s.Conn.Close()
}

// watchNames reads the names and revisions of the events of a watch until n have come or it ends.
func watchNames(body io.Reader, n int) (names []string, rev string) {
	lines := bufio.NewReaderSize(body, 64<<10)
	for len(names) < n {
		line, err := lines.ReadBytes('\n')
		var e struct {
			Type   string
			Object corev1.ConfigMap
		}
		if err != nil || json.Unmarshal(line, &e) != nil || e.Type != "ADDED" {
			return names, rev
		}
		names, rev = append(names, e.Object.Name), e.Object.ResourceVersion
	}
	return names, rev
}

// TestSlowWatcher: a watcher that stops reading, its stream or its whole connection, is cut off and counted. Another that reads is not held up,
// and the slow one, when it comes again with the last revision that it saw, has lost nothing.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ http2, wire bool }{
		"HTTP/1.1": {false, true}, "a stream of HTTP/2": {true, false}, "a connection of HTTP/2": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, reg := impatient(t, nil)
			path := s.URL + "/api/v1/configmaps?watch=1&resourceVersion="
			watch := func(c *http.Client, rev string) io.Reader {
				t.Helper()
				res, err := c.Get(path + rev)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { res.Body.Close() })
				return res.Body
			}
			start := currentRev(s.Store)
			stall := make(chan struct{})
			var wire chan struct{}
			if tc.wire {
				wire = stall
			}
			slow := watch(admin(t, s, tc.http2, wire), start)
			quick := watch(admin(t, s, tc.http2, nil), start)
			const n = 400
			put := make(chan struct{})
			go func() {
				defer close(put)
				for i := range n {
					s.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c%03d", i)}, BinaryData: map[string][]byte{"b": bytes.Repeat([]byte("x"), 40<<10)}})
				}
			}()
			if names, _ := watchNames(quick, n); len(names) != n {
				t.Errorf("the client that reads saw %d events of %d", len(names), n)
			}
			<-put
			eventually(t, "the slow watcher is counted", func() bool { return metric(t, reg, "apiserver_terminated_watchers_total") == 1 })
			eventually(t, "its handler has ended", func() bool { return metric(t, reg, "apiserver_longrunning_requests") == 1 })
			close(stall)
			seen, rev := watchNames(slow, n)
			if len(seen) == 0 || len(seen) == n {
				t.Fatalf("the slow client saw %d events of %d", len(seen), n)
			}
			rest, _ := watchNames(watch(admin(t, s, tc.http2, nil), rev), n-len(seen))
			for i, name := range append(seen, rest...) {
				if name != fmt.Sprintf("c%03d", i) {
					t.Fatalf("event %d is of %s", i, name)
				}
			}
		})
	}
}

// TestIdleWatcher: nothing happens to a watch that waits longer than a client may take to read.
func TestIdleWatcher(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s, reg := impatient(t, nil)
		res, err := admin(t, s, http2, nil).Get(s.URL + "/api/v1/configmaps?watch=1&timeoutSeconds=2&resourceVersion=" + currentRev(s.Store))
		if err != nil {
			t.Fatal(err)
		}
		s.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}})
		b, err := io.ReadAll(res.Body) // until its two seconds are over
		if err != nil || !bytes.Contains(b, []byte(`"a"`)) {
			t.Errorf("a watch ended with %v: %s", err, b)
		}
		res.Body.Close()
		if n := metric(t, reg, "apiserver_terminated_watchers_total"); n != 0 {
			t.Errorf("%v watches were cut off", n)
		}
	}
}

// TestSlowReader: a list that nobody reads gives its slot back.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s, reg := impatient(t, func(c *api.Config) { c.MaxRequests = 2 })
		for i := range 300 {
			s.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c%03d", i)}, BinaryData: map[string][]byte{"b": bytes.Repeat([]byte("x"), 40<<10)}})
		}
		stall := make(chan struct{})
		defer close(stall)
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/v1/configmaps", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "identity")
			res, err := admin(t, s, http2, stall).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
		}
		eventually(t, "no request is served any more", func() bool { return metric(t, reg, "apiserver_current_inflight_requests") == 0 })
		if _, err := typed(t, s, false).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// TestSlowInitialEvents: a watcher that reads, but so slowly that it would pin an old state for long, is told to begin again.
func TestSlowInitialEvents(t *testing.T) {
	t.Parallel()
	s, _ := impatient(t, func(c *api.Config) { c.WriteTimeout = 200 * time.Millisecond })
	for i := range 400 {
		s.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c%03d", i)}, BinaryData: map[string][]byte{"b": bytes.Repeat([]byte("x"), 48<<10)}})
	}
	for range 10 {
		last, total, slowest := readSlowly(t, s)
		if bytes.Contains(last, []byte(`"reason":"Expired"`)) {
			return
		}
		if slowest < 100*time.Millisecond {
			t.Fatalf("after %d bytes the watch ended with %.300s", total, last)
		}
		t.Logf("no judgement: the machine let this client wait for %s", slowest)
	}
	t.Error("in ten tries the client never got to read as fast as it should")
}

// readSlowly reads a watch to its end, at a pace that is slow, but never as slow as the server's WriteTimeout, unless the machine is too busy: slowest
// is the longest time from one read's end to the next one's. last is what came last.
func readSlowly(t *testing.T, s *apitest.Server) (last []byte, total int, slowest time.Duration) {
	res, err := admin(t, s, true, nil).Get(s.URL + "/api/v1/configmaps?watch=1&timeoutSeconds=15")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	last = make([]byte, 64<<10)
	for at := time.Now(); ; at = time.Now() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
		}
		n, err := io.ReadFull(res.Body, last)
		slowest = max(slowest, time.Since(at))
		if total += n; err != nil {
			return last[:n], total, slowest
		}
	}
}
