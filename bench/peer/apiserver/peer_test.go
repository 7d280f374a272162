package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"reconcile/pki"
)

// side is one of the two servers.
type side struct {
	name   string
	url    string
	client *http.Client
}

// loopback is an address that nobody else on this machine uses.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
}

// newClient is a client with a certificate of the administrator. Whom it talks to it knows by the address that it has just started.
func newClient(t testing.TB, a *pki.Authority) *http.Client {
	t.Helper()
	id, err := a.Identity(pki.AdminSpec())
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{Certificates: []tls.Certificate{id.Cert}, InsecureSkipVerify: true}, //nolint:gosec // see above
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		DisableCompression:  true,
	}}
}

// program is the path that an environment variable names.
func program(t testing.TB, name, script string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set: it is to name the program that %s builds; `make judge-apiserver` does both", name, script)
	}
	return path
}

// startPeer runs etcd and kube-apiserver until the test ends. Clients are known by certificates of our authority.
func startPeer(t testing.TB, a *pki.Authority) side {
	t.Helper()
	etcd, apiserver := program(t, "ETCD", "scripts/etcd-tools.sh"), program(t, "KUBE_APISERVER", "scripts/kube-apiserver.sh")
	dir, host := t.TempDir(), loopback()
	ca, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "accounts.key")
	if err := os.WriteFile(ca, a.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeKey(key); err != nil {
		t.Fatal(err)
	}
	clients, peers := "http://"+host+":2379", "http://"+host+":2380"
	run(t, dir, etcd, "--data-dir", filepath.Join(dir, "etcd"), "--name", "one", "--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "one="+peers, "--log-level", "error")
	run(t, dir, apiserver, "--etcd-servers", clients, "--bind-address", host, "--secure-port", "6443", "--cert-dir", filepath.Join(dir, "certs"),
		"--client-ca-file", ca, "--authorization-mode", "RBAC", "--service-cluster-ip-range", serviceRange, "--allow-privileged",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--advertise-address", "10.0.0.1", "--endpoint-reconciler-type", "none")
	s := side{"kube-apiserver", "https://" + host + ":6443", newClient(t, a)}
	s.await(t)
	return s
}

// run starts a program that ends with the test, and keeps what it says for a test that fails.
func run(t testing.TB, dir, path string, args ...string) {
	t.Helper()
	logName := filepath.Join(dir, filepath.Base(path)+".log")
	out, err := os.Create(logName)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(path, args...)
	c.Dir, c.Stdout, c.Stderr = dir, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// It keeps nothing that is wanted.
		err := errors.Join(c.Process.Kill(), out.Close())
		var exit *exec.ExitError
		if werr := c.Wait(); err != nil || werr != nil && !errors.As(werr, &exit) {
			t.Errorf("end %s: %v", path, errors.Join(err, werr))
		}
		if b, err := os.ReadFile(logName); t.Failed() && err == nil {
			t.Logf("the end of what %s said:\n%s", filepath.Base(path), b[max(0, len(b)-4000):])
		}
	})
}

// await waits until a server is ready.
func (s side) await(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.client.Do(r)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is not ready: %v", s.name, err)
		}
	}
}
