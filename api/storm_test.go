package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/pki"
)

// TestListStorm lets one client list thousands of objects again and again, on many connections at once: it is told to come again, and an agent's
// requests are served all the while. Lists that are served as fast as they are asked for are never too many, so those that are let in wait at the
// store until the rest was refused and the agent was answered (it reads without a barrier): what is tested is then the same on every machine.
func TestListStorm(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	for i := range 2000 {
		store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c%04d", i)}, Data: map[string]string{"k": strings.Repeat("v", 500)}})
	}
	store.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	gate := make(chan struct{})
	s := apitest.Start(t, store, func(c *api.Config) { c.Store, c.MaxRequests = gated{store, gate}, 10 })
	id, err := s.Authority.Identity(pki.NodeSpec("n1", []string{"127.0.0.1"}))
	if err != nil {
		t.Fatal(err)
	}
	agent := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{id.Cert}, RootCAs: s.Authority.Pool(), MinVersion: tls.VersionTLS13}}}
	t.Cleanup(agent.CloseIdleConnections)
	var refused, served, stop atomic.Int64
	var wg sync.WaitGroup
	open := sync.OnceFunc(func() { close(gate) })
	end := func() {
		stop.Store(1)
		open()
		wg.Wait()
	}
	defer end()
	for range 64 {
		c := admin(t, s, false, nil)
		wg.Go(func() {
			for stop.Load() == 0 {
				res, err := c.Get(s.URL + "/api/v1/configmaps")
				if err != nil {
					t.Errorf("a list: %v", err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				switch {
				case err != nil:
					t.Errorf("read a list: %v", err)
					return
				case res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Retry-After") != "":
					refused.Add(1)
				case res.StatusCode == http.StatusOK:
					served.Add(1)
				default:
					t.Errorf("a list is answered with %s", res.Status)
				}
			}
		})
	}
	eventually(t, "lists are refused", func() bool { return refused.Load() > 0 })
	for range 50 {
		res, err := agent.Get(s.URL + "/api/v1/nodes/n1?resourceVersion=0")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("the agent is answered with %s", res.Status)
		}
	}
	if n := served.Load(); n != 0 {
		t.Errorf("%d lists went past the store", n)
	}
	open()
	eventually(t, "lists are served again", func() bool { return served.Load() > 0 })
	end()
}

// framer speaks HTTP/2 by hand.
func framer(t *testing.T, s *apitest.Server) (*http2.Framer, *tls.Conn) {
	t.Helper()
	id, err := s.Authority.Identity(pki.AdminSpec())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{Certificates: []tls.Certificate{id.Cert}, RootCAs: s.Authority.Pool(), MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	say(t, conn, http2.ClientPreface)
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f, conn
}

// headers are those of a request, packed.
func headers(t *testing.T, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", path}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// gated is a store whose reads are as slow as can be: they wait until the gate is open, whoever has gone meanwhile.
type gated struct {
	api.Store
	gate <-chan struct{}
}

func (h gated) Barrier(ctx context.Context) error {
	<-h.gate
	return h.Store.Barrier(ctx)
}

// TestFloodsOfHTTP2 begins streams and resets them at once, and sends a header that has no end: the connection is closed, and others are served.
func TestFloodsOfHTTP2(t *testing.T) {
	t.Parallel()
	// ended reads what the server says until it closes, and lets write go on until it cannot.
	ended := func(t *testing.T, f *http2.Framer, conn *tls.Conn, write func(n uint32) error) {
		t.Helper()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			//nolint:errcheck // what it says is of no interest, only that it ends
			io.Copy(io.Discard, conn)
		}()
		const most = 1 << 20
		n := uint32(0)
		for ; n < most && write(n) == nil; n++ {
			select {
			case <-gone:
				n = most + 1
			default:
			}
		}
		if n == most {
			t.Errorf("%d frames were taken and the connection is still open", n)
		}
		conn.Close()
		<-gone
	}
	for name, write := range map[string]func(t *testing.T, f *http2.Framer) func(n uint32) error{
		"rapid resets": func(t *testing.T, f *http2.Framer) func(uint32) error {
			head := headers(t, "/api/v1/configmaps")
			return func(n uint32) error {
				id := 2*n + 1
				return errors.Join(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndStream: true, EndHeaders: true}), f.WriteRSTStream(id, http2.ErrCodeCancel))
			}
		},
		"a header without end": func(t *testing.T, f *http2.Framer) func(uint32) error {
			head := headers(t, "/api/v1/configmaps")
			return func(n uint32) error {
				if n == 0 {
					return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head})
				}
				var b bytes.Buffer
				if err := hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: fmt.Sprint("x-", n), Value: strings.Repeat("v", 1000), Sensitive: true}); err != nil {
					return err
				}
				return f.WriteContinuation(1, false, b.Bytes())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A server that answers as fast as a client resets has no reason to close, so nothing is answered before the connection has ended: what is
			// tested is then the same on every machine.
			gate, store := make(chan struct{}), apitest.New()
			s := apitest.Start(t, store, func(c *api.Config) { c.Store, c.MaxRequests = gated{store, gate}, 1<<20 })
			f, conn := framer(t, s)
			ended(t, f, conn, write(t, f))
			close(gate)
			res, err := admin(t, s, true, nil).Get(s.URL + "/api/v1/configmaps")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("another client is answered with %s", res.Status)
			}
		})
	}
}
