package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reconcile/api"
	"reconcile/api/apitest"
)

// rawConn is a TLS connection as administrator, for clients that misbehave.
func rawConn(t *testing.T, s *apitest.Server) *tls.Conn {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cfg.CAData)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// The test must end even if the server does not do its part.
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// closed waits until the server closes a connection and returns what it said before.
func closed(t *testing.T, what string, conn io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(conn)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Errorf("%s: the connection is still open", what)
	}
	return string(b)
}

// TestSilentClients holds connections open and says nothing, or half of what it began to say.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	// Who is to be answered must not be closed for a header that a busy machine lets come late.
	limits := func(header time.Duration) *apitest.Server {
		return apitest.Start(t, apitest.New(), func(c *api.Config) {
			c.Limits = api.Limits{Header: header, Idle: 300 * time.Millisecond, Stall: 300 * time.Millisecond, Body: 1500 * time.Millisecond}
		})
	}
	strict, s := limits(300*time.Millisecond), limits(time.Minute)
	const post = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
	for name, said := range map[string]string{"nothing": "", "half a header": "GET /version HTTP/1.1\r\nHost:", "between requests": "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			conn := rawConn(t, strict)
			// It may have been closed before it says this.
			_, _ = io.WriteString(conn, said)
			closed(t, name, conn)
		})
	}
	t.Run("half a body", func(t *testing.T) {
		conn := rawConn(t, s)
		say(t, conn, post+`{"kind":`)
		if got := closed(t, "half a body", conn); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("the answer is %q, want 408", got)
		}
	})
	t.Run("a body drop by drop", func(t *testing.T) {
		conn := rawConn(t, s)
		say(t, conn, post)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
			}
		})
		got := closed(t, "drops", conn)
		cancel()
		wg.Wait()
		if !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("the answer is %q, want 408", got)
		}
	})
}

// TestNoHello opens a TCP connection and does not begin with the TLS handshake.
func TestNoHello(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := closed(t, "a connection without a word", conn); got != "" {
		t.Errorf("the server said %q", got)
	}
}

// TestSizes sends a header and a body that are too long.
func TestSizes(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), func(c *api.Config) { c.Limits.HeaderBytes = 8 << 10 })
	conn := rawConn(t, s)
	// net/http allows 4 KiB more than it is told. The server may close before all is said.
	_, _ = io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 16<<10)+"\r\n\r\n")
	if got := closed(t, "a long header", conn); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("a long header: %q, want 431", got)
	}
	c := typed(t, s, false)
	_, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"d": strings.Repeat("x", 4<<20)}}, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "limit is 3145728") {
		t.Errorf("a long body: %v", err)
	}
}

// TestTooManyConnections opens one more than may be open.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), func(c *api.Config) {
		// It must not be closed for its silence.
		c.Limits = api.Limits{Connections: 2, Header: time.Minute}
	})
	ask := func(conn net.Conn) error {
		say(t, conn, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return err
	}
	first, second := rawConn(t, s), rawConn(t, s)
	for _, conn := range []net.Conn{first, second} {
		if err := ask(conn); err != nil {
			t.Fatal(err)
		}
	}
	third := rawConn(t, s)
	closed(t, "the third connection", third)
	if err := ask(first); err != nil {
		t.Errorf("the first connection: %v", err)
	}
	second.Close()
	eventually(t, "room for another", func() bool {
		conn := rawConn(t, s)
		defer conn.Close()
		_, err := io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
		if err == nil {
			_, err = http.ReadResponse(bufio.NewReader(conn), nil)
		}
		return err == nil
	})
}

// hole passes bytes on until it swallows them: then neither side hears of the other, as when a machine goes without a word.
type hole struct {
	addr string
	// gone is closed when the server has closed its side.
	gone chan struct{}

	mu      sync.Mutex
	swallow bool
}

func newHole(t *testing.T, to string) *hole {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{addr: ln.Addr().String(), gone: make(chan struct{})}
	joined := make(chan struct{})
	var wg sync.WaitGroup
	var client, server net.Conn
	wg.Go(func() {
		var err error
		if client, err = ln.Accept(); err != nil {
			return
		}
		if server, err = net.Dial("tcp", to); err != nil {
			t.Error(err)
			return
		}
		close(joined)
		var both sync.WaitGroup
		both.Go(func() { h.pass(server, client) })
		both.Go(func() {
			h.pass(client, server)
			close(h.gone)
			client.Close()
		})
		both.Wait()
		server.Close()
	})
	t.Cleanup(func() {
		ln.Close()
		select {
		case <-joined:
			client.Close()
			server.Close()
		default:
		}
		wg.Wait()
	})
	return h
}

// pass copies until from ends; what comes while the hole swallows is lost.
func (h *hole) pass(to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		h.mu.Lock()
		lost := h.swallow
		h.mu.Unlock()
		if !lost {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// TestGoneClient watches over HTTP/2 from a machine that goes without a word: the server asks for a sign of life and lets it go.
func TestGoneClient(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), func(c *api.Config) {
		c.Limits = api.Limits{Ping: 300 * time.Millisecond, Pong: 300 * time.Millisecond}
	})
	h := newHole(t, strings.TrimPrefix(s.URL, "https://"))
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, h.addr)
	}
	c, err := kubernetes.NewForConfig(rest.CopyConfig(cfg))
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if e, ok := <-w.ResultChan(); !ok || e.Object.(*corev1.ConfigMap).Name != "c" {
		t.Fatal(e, ok)
	}
	h.mu.Lock()
	h.swallow = true
	h.mu.Unlock()
	select {
	case <-h.gone:
	case <-time.After(20 * time.Second):
		t.Error("the server still holds the connection of a client that is gone")
	}
}

// TestManyConnections holds idle clients and watchers of one object, each on a connection of its own, and serves others meanwhile.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	const idle, watchers = 400, 100
	for range idle {
		rawConn(t, s)
	}
	var readers []*bufio.Reader
	for range watchers {
		conn := rawConn(t, s)
		say(t, conn, "GET /api/v1/configmaps?watch=1&resourceVersion=0 HTTP/1.1\r\nHost: x\r\n\r\n")
		readers = append(readers, bufio.NewReader(conn))
	}
	for _, r := range readers {
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
	}
	c := typed(t, s, true)
	for i := range 3 {
		if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for n, r := range readers {
		for seen := 0; seen < 3; {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("watcher %d after %d events: %v", n, seen, err)
			}
			if strings.Contains(line, fmt.Sprintf(`"name":"c%d"`, seen)) {
				seen++
			}
		}
	}
}
