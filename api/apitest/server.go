package apitest

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/version"

	"reconcile/api"
	"reconcile/internal/loopback"
	"reconcile/pki"
)

// Server is an API over TLS on a loopback address of its own, as a member of the control plane serves it.
type Server struct {
	Store      *Store
	Authority  *pki.Authority
	URL        string
	Kubeconfig string
	Dir        string

	addr string
	cfg  api.Config
	stop func()
}

// Start serves a store until the test ends. change may alter the configuration.
func Start(t testing.TB, store *Store, change func(*api.Config)) *Server {
	t.Helper()
	s := &Server{Store: store, Dir: t.TempDir(), addr: loopback.Address()}
	var err error
	if s.Authority, err = pki.Open(pki.Config{Dir: filepath.Join(s.Dir, "pki")}); err != nil {
		t.Fatal(err)
	}
	s.cfg = api.Config{
		Store: store, Writer: store, Log: slog.New(slog.DiscardHandler),
		Version: version.Info{Major: "1", Minor: "36", GitVersion: "v1.36.3+reconcile", GoVersion: "go", Platform: "linux/amd64"},
	}
	if s.cfg.Tokens, err = s.Authority.Tokens(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&s.cfg)
	}
	s.Run(t)
	t.Cleanup(s.Stop)
	admin, err := s.Authority.Identity(pki.AdminSpec())
	if err != nil {
		t.Fatal(err)
	}
	s.Kubeconfig = filepath.Join(s.Dir, "admin.kubeconfig")
	kc := pki.Kubeconfig{Cluster: "reconcile", User: "admin", Servers: []string{s.URL}, CA: s.Authority.PEM(), Identity: admin}
	if err := kc.Write(s.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	return s
}

// StartPeer serves the same store under the same authority on another port.
func StartPeer(t testing.TB, first *Server) *Server {
	t.Helper()
	s := &Server{Store: first.Store, Authority: first.Authority, Kubeconfig: first.Kubeconfig, Dir: first.Dir, addr: loopback.Address(), cfg: first.cfg}
	s.Run(t)
	t.Cleanup(s.Stop)
	return s
}

// Run begins to serve, on the same port as before if it was stopped.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	h, err := api.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.Authority.Identity(pki.ServerSpec("m1", []string{host, "localhost"}))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.URL = "https://" + s.addr
	mux := pki.NewMux(ln, pki.ServerTLS(id, s.Authority.Pool()), s.cfg.Log)
	hln := mux.Listen(pki.ProtoH2, pki.ProtoHTTP1)
	ctx, cancel := context.WithCancel(context.Background())
	srv := api.HTTPServer(ctx, s.cfg, h)
	srv.HTTP2.MaxConcurrentStreams = 1000
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := mux.Run(ctx); err != nil {
			t.Errorf("mux: %v", err)
		}
	})
	wg.Go(func() {
		//nolint:errcheck // it ends with ErrServerClosed
		srv.Serve(hln)
	})
	s.stop = func() {
		cancel()
		hln.Close()
		_ = srv.Close()
		wg.Wait()
	}
}

// Stop ends the server and every connection to it.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}
