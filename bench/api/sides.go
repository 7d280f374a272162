package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reconcile/pki"
)

// side is one of the two: its server processes, and how to talk to them.
type side struct {
	name  string
	cfg   *rest.Config
	procs []*exec.Cmd
	made  int // objects that loads have made: each has a name of its own
}

// namespace is where the loads work.
const namespace = "bench"

// host is a loopback address of this run for a server.
func host(n int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 100+n, pid>>8&0xff, pid&0xff)
}

// start runs a program in a folder; it dies with this one.
func (s *side) start(dir, bin string, args ...string) (io.Reader, error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(bin)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(bin, args...)
	c.Dir, c.Stderr = dir, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	s.procs = append(s.procs, c)
	return out, nil
}

// stop ends the servers: with SIGTERM first, so that profiles are written.
func (s *side) stop() {
	for _, p := range s.procs {
		_ = p.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range s.procs {
		kill := time.AfterFunc(10*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait() // it was told to end
		kill.Stop()
	}
}

// startTheirs runs etcd and kube-apiserver with their defaults, but for the bounds of what is served at once, which a measurement would meet.
func startTheirs(ctx context.Context, dir string) (*side, error) {
	tools, err := output(ctx, "scripts/etcd-tools.sh")
	if err != nil {
		return nil, err
	}
	server, err := output(ctx, "scripts/kube-apiserver.sh")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	authority, err := pki.Open(pki.Config{Dir: filepath.Join(dir, "pki")})
	if err != nil {
		return nil, err
	}
	admin, err := authority.Identity(pki.AdminSpec())
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "accounts.key")
	if err := writeKey(key); err != nil {
		return nil, err
	}
	s := &side{name: "kube-apiserver"}
	clients, peers := "http://"+host(1)+":2379", "http://"+host(1)+":2380"
	if _, err := s.start(dir, filepath.Join(tools, "etcd"), "--data-dir", filepath.Join(dir, "etcd"), "--name", "one", "--listen-client-urls", clients,
		"--advertise-client-urls", clients, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "one="+peers); err != nil {
		return s, err
	}
	if _, err := s.start(dir, server, "--etcd-servers", clients, "--bind-address", host(1), "--secure-port", "6443", "--cert-dir", filepath.Join(dir, "certs"),
		"--client-ca-file", authority.CertFile(), "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--max-requests-inflight", "3000", "--max-mutating-requests-inflight", "1500",
		// Pods need no account: the controller that makes it does not run.
		"--disable-admission-plugins", "ServiceAccount", "--advertise-address", "10.0.0.1", "--endpoint-reconciler-type", "none"); err != nil {
		return s, err
	}
	s.cfg = &rest.Config{Host: "https://" + host(1) + ":6443", TLSClientConfig: rest.TLSClientConfig{Insecure: true, CertData: admin.CertPEM, KeyData: admin.KeyPEM}}
	return s, s.await(ctx)
}

// startOurs builds and runs our server.
func startOurs(ctx context.Context, dir string, flags []string) (*side, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, "server")
	if _, err := output(ctx, "go", "build", "-o", bin, "./bench/api/server"); err != nil {
		return nil, err
	}
	s := &side{name: "ours"}
	data := filepath.Join(dir, "data")
	out, err := s.start(dir, bin, append([]string{"-data-dir", data, "-addr", net.JoinHostPort(host(2), "6443")}, flags...)...)
	if err != nil {
		return s, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		continue
	}
	if s.cfg, err = clientcmd.BuildConfigFromFlags("", filepath.Join(data, "admin.kubeconfig")); err != nil {
		return s, err
	}
	return s, s.await(ctx)
}

func writeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// await waits until the server is ready.
func (s *side) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c, err := s.client(false)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", s.name, err)
		}
	}
}

// client is one with a connection of its own, which asks for JSON or, as client-go's do by themselves, for protobuf.
func (s *side) client(json bool) (*kubernetes.Clientset, error) {
	cfg := rest.CopyConfig(s.cfg)
	cfg.QPS, cfg.Burst = -1, -1
	cfg.Dial = (&net.Dialer{}).DialContext // client-go shares connections between clients whose configurations are the same
	if !json {
		cfg.ContentType, cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	}
	return kubernetes.NewForConfig(cfg)
}

// prepare makes the namespace.
func (s *side) prepare(ctx context.Context) error {
	c, err := s.client(false)
	if err != nil {
		return err
	}
	_, err = c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	return err
}

// cpu is the processor time of the server processes so far.
func (s *side) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range s.procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err != nil {
			return 0, err
		}
		_, rest, _ := strings.Cut(string(b), ") ") // the name may hold spaces
		f := strings.Fields(rest)
		for _, ticks := range f[11:13] { // utime and stime, in hundredths of a second (proc(5))
			n, err := strconv.Atoi(ticks)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum, nil
}

// resident is the memory of the server processes in MB, together and one by one.
func (s *side) resident() (sum int, parts string, err error) {
	for _, p := range s.procs {
		b, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
		_, rest, ok := strings.Cut(string(b), "VmRSS:")
		if rerr != nil || !ok {
			return 0, "", errors.Join(rerr, fmt.Errorf("%s has ended", p.Path))
		}
		kb, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			return 0, "", err
		}
		sum += kb / 1000
		parts += fmt.Sprintf(" %s %d", filepath.Base(p.Path), kb/1000)
	}
	return sum, strings.TrimSpace(parts), nil
}
