package pki

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"
)

// TestSilentConnectionsKeepNobodyOut: of more connections that say nothing than may be in their handshake, the oldest goes, and a client that speaks
// comes in.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	server := identity(t, a, ServerSpec("s1", []string{"127.0.0.1"}))
	var cfg net.ListenConfig
	ln, err := cfg.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMux(ln, ServerTLS(server, a.Pool()), slog.New(slog.DiscardHandler))
	m.limit, m.most = time.Hour, 3
	web := m.Listen(ProtoHTTP1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var silent []net.Conn
	for range 4 {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	if err := silent[0].SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // a net.Conn's is not wrapped
		t.Errorf("the oldest of 4 silent connections, of which 3 may wait: %v; want its end", err)
	}
	came := make(chan net.Conn, 1)
	wg.Go(func() {
		c, err := web.Accept()
		if err == nil {
			came <- c
		}
	})
	d := tls.Dialer{Config: ClientTLS(identity(t, a, AdminSpec()), a.Pool(), "")}
	c, err := d.DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case c := <-came:
		c.Close()
	case <-time.After(20 * time.Second):
		t.Error("a client that speaks is not handed over")
	}
	web.Close()
}
