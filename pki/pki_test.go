package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func open(t *testing.T, dir string, now time.Time) *Authority {
	t.Helper()
	a, err := Open(Config{Dir: dir, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func identity(t *testing.T, a *Authority, s Spec) Identity {
	t.Helper()
	id, err := a.Identity(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAuthorityIsLoadedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	now := time.Now()
	a := open(t, dir, now)
	admin := identity(t, a, AdminSpec())
	b := open(t, dir, now)
	if string(a.PEM()) != string(b.PEM()) {
		t.Error("the authority was made anew")
	}
	if again := identity(t, b, AdminSpec()); string(again.CertPEM) != string(admin.CertPEM) || string(again.KeyPEM) != string(admin.KeyPEM) {
		t.Error("the certificate was made anew")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s: others can read it", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHalfAnAuthorityIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, time.Now())
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "its pair is not") {
		t.Errorf("got %v, want an error that tells of the missing half", err)
	}
}

func TestIdentityIsSignedAnewWhenItNoLongerFits(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	a := open(t, dir, now)
	first := identity(t, a, ServerSpec("m1", []string{"10.0.0.1"}))
	if same := identity(t, a, ServerSpec("m1", []string{"10.0.0.1"})); string(same.CertPEM) != string(first.CertPEM) {
		t.Error("a certificate that fits was replaced")
	}
	moved := identity(t, a, ServerSpec("m1", []string{"10.0.0.1", "10.0.0.2"}))
	if string(moved.CertPEM) == string(first.CertPEM) {
		t.Error("a certificate without the new address was kept")
	}
	late := open(t, dir, now.Add(leafLife-time.Hour))
	if next := identity(t, late, ServerSpec("m1", []string{"10.0.0.1"})); string(next.CertPEM) == string(moved.CertPEM) {
		t.Error("a certificate that is about to expire was kept")
	}
	cert, err := tls.X509KeyPair(moved.CertPEM, moved.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf.Subject.CommonName != "reconcile:server:m1" {
		t.Errorf("CN = %s", cert.Leaf.Subject.CommonName)
	}
}

func TestKubeconfig(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	path := filepath.Join(t.TempDir(), "admin.kubeconfig")
	k := Kubeconfig{Cluster: "reconcile", User: "admin", Servers: []string{"https://10.0.0.1:6443", "https://10.0.0.2:6443"}, CA: a.PEM(), Identity: identity(t, a, AdminSpec())}
	if err := k.Write(path); err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://10.0.0.1:6443" {
		t.Errorf("host = %s", cfg.Host)
	}
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if raw.Contexts["reconcile-2"] == nil || raw.Clusters["reconcile-2"].Server != "https://10.0.0.2:6443" {
		t.Errorf("the second server is missing: %v", raw.Contexts)
	}
	block, err := x509.ParseCertificate(k.Identity.Cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if block.Subject.CommonName != "admin" || block.Subject.Organization[0] != GroupMasters {
		t.Errorf("subject = %s", block.Subject)
	}
}

// scarce is a listener whose first accepts fail as they do when the process has no descriptor left.
type scarce struct {
	net.Listener
	left int
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.left > 0 {
		s.left--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

// TestMuxOutlivesScarcity lets accept fail for want of descriptors, and sees that the port serves afterwards.
func TestMuxOutlivesScarcity(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	server, err := a.Identity(ServerSpec("m1", []string{"127.0.0.1"}))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := NewMux(&scarce{ln, 2}, ServerTLS(server, a.Pool()), slog.New(slog.DiscardHandler))
	mux.Listen(ProtoRaft)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- mux.Run(ctx) }()
	conn, err := Dial(ctx, ln.Addr().String(), ProtoRaft, server, a.Pool())
	if err != nil {
		t.Errorf("the port is gone: %v", err)
	} else {
		conn.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestMux connects with every protocol and as everybody, and sees who gets where.
func TestMux(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	server := identity(t, a, ServerSpec("m1", []string{"127.0.0.1"}))
	admin := identity(t, a, AdminSpec())
	node := identity(t, a, NodeSpec("n1", nil))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := NewMux(ln, ServerTLS(server, a.Pool()), slog.New(slog.DiscardHandler))
	raft, web := mux.Listen(ProtoRaft), mux.Listen(ProtoH2, ProtoHTTP1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := mux.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.VerifiedChains) > 0 {
			who = r.TLS.VerifiedChains[0][0].Subject.CommonName
		}
		_, _ = io.WriteString(w, r.Proto+" "+who)
	}), ReadHeaderTimeout: time.Minute}
	defer srv.Close()
	wg.Go(func() { _ = srv.Serve(web) })
	wg.Go(func() {
		for {
			c, err := raft.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "raft")
			c.Close()
		}
	})
	defer raft.Close()

	get := func(id Identity, h2 bool) string {
		tr := &http.Transport{TLSClientConfig: ClientTLS(id, a.Pool(), ""), ForceAttemptHTTP2: h2}
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Get("https://" + ln.Addr().String())
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	if got := get(admin, true); got != "HTTP/2.0 admin" {
		t.Errorf("h2: %s", got)
	}
	if got := get(node, false); got != "HTTP/1.1 system:node:n1" {
		t.Errorf("http/1.1: %s", got)
	}
	if got := get(Identity{}, true); got != "HTTP/2.0 nobody" {
		t.Errorf("anonymous: %s", got)
	}
	other := open(t, t.TempDir(), time.Now())
	if got := get(identity(t, other, AdminSpec()), true); strings.HasPrefix(got, "HTTP/") { // which error it is depends on who is faster: the handshake's end or the first request
		t.Errorf("another authority's admin: %s", got)
	}
	c, err := Dial(ctx, ln.Addr().String(), ProtoRaft, server, a.Pool())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "raft" {
		t.Errorf("raft: %q, %v", b, err)
	}
	c.Close()
	// A node passes the handshake, because its certificate is good, and is then cut off.
	c, err = Dial(ctx, ln.Addr().String(), ProtoRaft, node, a.Pool())
	if err == nil {
		b, rerr := io.ReadAll(c)
		if len(b) > 0 || rerr != nil && !errors.Is(rerr, io.EOF) && !strings.Contains(rerr.Error(), "reset") {
			t.Errorf("a node speaks raft: %q, %v", b, rerr)
		}
		c.Close()
	}
}
