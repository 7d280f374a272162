package stream_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reconcile/node/stream"
	"reconcile/object"
)

// backend answers commands: "cat" gives back its input, "size" the terminal's first size, "fail" ends with 7.
type backend struct{}

func (backend) Summary(context.Context) (*statsapi.Summary, error) {
	return &statsapi.Summary{Node: statsapi.NodeStats{NodeName: "n"}}, nil
}

func (backend) PodMetrics(ctx context.Context, queries []object.PodQuery) (out []object.PodSamples) {
	for _, q := range queries {
		if q.Name == "hangs" {
			<-ctx.Done()
			out = append(out, object.PodSamples{Name: q.Name, Fault: ctx.Err().Error()})
			continue
		}
		out = append(out, object.PodSamples{Name: q.Name, Samples: []object.Sample{{MetricQuery: q.Queries[0], Value: 2.5}}})
	}
	return out
}

func (backend) Counters(context.Context) (*object.NodeCounters, error) {
	return &object.NodeCounters{Machine: &object.Counters{At: 1, CPU: 2, Memory: 3}, Pods: []object.PodCounters{{Namespace: "ns", Name: "p",
		Containers: []object.ContainerCounters{{Name: "c", Counters: object.Counters{At: 4, Started: 5, CPU: 6, Memory: 7}}}}}}, nil
}

func (backend) Metrics(context.Context) ([]byte, error) { return []byte("node_up 1\n"), nil }

func (backend) Exec(ctx context.Context, ns, pod, ctr string, command []string, s stream.Streams) (int, error) {
	if pod == "gone" {
		return 0, stream.ErrNotFound
	}
	switch command[0] {
	case "cat":
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	case "size":
		select {
		case z := <-s.Resize:
			fmt.Fprintf(s.Stdout, "%dx%d", z.Width, z.Height)
			return 0, nil
		case <-time.After(time.Minute):
			return 1, errors.New("no size came")
		}
	case "fail":
		fmt.Fprint(s.Stderr, "oops")
		return 7, nil
	case "wait":
		<-ctx.Done()
		return 0, ctx.Err()
	}
	fmt.Fprint(s.Stdout, strings.Join(append([]string{ns, pod, ctr}, command...), " "))
	return 0, nil
}

func (b backend) Attach(ctx context.Context, ns, pod, ctr string, s stream.Streams) error {
	_, err := b.Exec(ctx, ns, pod, ctr, []string{"attached"}, s)
	return err
}

func (backend) Logs(_ context.Context, _, pod, _ string, o stream.LogOptions, w io.Writer) error {
	if pod == "gone" {
		return stream.ErrNotFound
	}
	_, err := fmt.Fprintf(w, "follow=%t tail=%d limit=%d previous=%t stamps=%t", o.Follow, o.Tail, o.LimitBytes, o.Previous, o.Timestamps)
	return err
}

func (backend) Dial(context.Context, string, string, int32) (net.Conn, error) {
	return nil, stream.ErrNotRunning
}

type terminal chan remotecommand.TerminalSize

func (q terminal) Next() *remotecommand.TerminalSize {
	s, ok := <-q
	if !ok {
		return nil
	}
	return &s
}

func TestExec(t *testing.T) {
	srv := httptest.NewServer(stream.Handler(backend{}, slog.New(slog.DiscardHandler)))
	defer srv.Close()
	cfg := &rest.Config{Host: srv.URL}
	for name, executor := range map[string]func(u *url.URL) (remotecommand.Executor, error){
		"websocket v5": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(cfg, "GET", u.String())
		},
		"websocket v4": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutorForProtocols(cfg, "GET", u.String(), "v4.channel.k8s.io")
		},
		"SPDY": func(u *url.URL) (remotecommand.Executor, error) { return remotecommand.NewSPDYExecutor(cfg, "POST", u) },
	} {
		t.Run(name, func(t *testing.T) {
			run := func(path string, o remotecommand.StreamOptions) error {
				u, _ := url.Parse(srv.URL + path)
				x, err := executor(u)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				return x.StreamWithContext(ctx, o)
			}
			var out, errb bytes.Buffer
			if err := run("/exec/ns/p/c?command=a&command=b&stdout=true&stderr=true", remotecommand.StreamOptions{Stdout: &out, Stderr: &errb}); err != nil || out.String() != "ns p c a b" {
				t.Errorf("plain: %q, %v", out.String(), err)
			}
			out.Reset()
			err := run("/exec/ns/p/c?command=fail&output=1&error=1", remotecommand.StreamOptions{Stdout: &out, Stderr: &errb})
			var code utilexec.CodeExitError
			if !errors.As(err, &code) || code.Code != 7 || errb.String() != "oops" {
				t.Errorf("fail: %v, %q", err, errb.String())
			}
			if name != "websocket v4" { // v4 cannot tell the end of stdin
				out.Reset()
				if err := run("/exec/ns/p/c?command=cat&stdin=1&stdout=1", remotecommand.StreamOptions{Stdin: strings.NewReader(strings.Repeat("x", 100000)), Stdout: &out}); err != nil || out.Len() != 100000 {
					t.Errorf("cat: %d bytes, %v", out.Len(), err)
				}
			}
			out.Reset()
			q := make(terminal, 1)
			q <- remotecommand.TerminalSize{Width: 80, Height: 25}
			if err := run("/exec/ns/p/c?command=size&stdout=1&tty=1&stderr=1", remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: q}); err != nil || out.String() != "80x25" {
				t.Errorf("size: %q, %v", out.String(), err)
			}
			close(q)
			if err := run("/exec/ns/gone/c?command=x&stdout=1", remotecommand.StreamOptions{Stdout: &out}); err == nil || !strings.Contains(err.Error(), "not found") {
				t.Errorf("gone: %v", err)
			}
			out.Reset()
			if err := run("/attach/ns/p/c?stdout=1", remotecommand.StreamOptions{Stdout: &out}); err != nil || out.String() != "ns p c attached" {
				t.Errorf("attach: %q, %v", out.String(), err)
			}
		})
	}
}

// TestPodMetricsEndpoint: a list of questions has a list of answers; what is no such list, or too long, is refused.
func TestPodMetricsEndpoint(t *testing.T) {
	srv := httptest.NewServer(stream.Handler(backend{}, slog.New(slog.DiscardHandler)))
	defer srv.Close()
	for question, want := range map[string]string{
		`?timeout=1ms [{"namespace":"ns","name":"hangs"}]`: `200 [{"namespace":"","name":"hangs","fault":"context deadline exceeded"}]`,
		`?timeout=soon []`: `400 timeout is "soon": want a time of at most 1m0s`,
		`?timeout=-1s []`:  `400 timeout is "-1s": want a time of at most 1m0s`,
		`?timeout=2m []`:   `400 timeout is "2m": want a time of at most 1m0s`,
		` [{"namespace":"ns","name":"p","queries":[{"name":"m","selector":"a=b"}]}]`: `200 [{"namespace":"","name":"p","samples":[{"name":"m","selector":"a=b","value":2.5}]}]`,
		` {}`: "400 read which metrics of which pods are wanted: json: cannot unmarshal object into Go value of type []object.PodQuery",
		" [" + strings.Repeat("{},", 4096) + "{}]": "400 metrics of 4097 pods are wanted: want at most 4096",
	} {
		parameters, body, _ := strings.Cut(question, " ")
		r, err := http.Post(srv.URL+"/metrics/pods"+parameters, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if got := fmt.Sprint(r.StatusCode, " ", strings.TrimSpace(string(b))); got != want {
			t.Errorf("%.100s: %s, want %s", question, got, want)
		}
	}
}

func TestLogsEndpoint(t *testing.T) {
	srv := httptest.NewServer(stream.Handler(backend{}, slog.New(slog.DiscardHandler)))
	defer srv.Close()
	for path, want := range map[string]string{
		"/metrics/resource":     "200 node_up 1",
		"/stats/counters":       `200 {"machine":{"at":1,"cpu":2,"memory":3},"pods":[{"namespace":"ns","name":"p","containers":[{"name":"c","at":4,"started":5,"cpu":6,"memory":7}]}]}`,
		"/stats/summary":        "200 {\n \"node\": {\n  \"nodeName\": \"n\",\n  \"startTime\": null\n },\n \"pods\": null\n}",
		"/containerLogs/ns/p/c": "200 follow=false tail=-1 limit=0 previous=false stamps=false",
		"/containerLogs/ns/p/c?follow=true&tailLines=5&limitBytes=9&previous=1&timestamps=true": "200 follow=true tail=5 limit=9 previous=true stamps=true",
		"/containerLogs/ns/gone/c":           "404 not found on this node",
		"/containerLogs/ns/p/c?tailLines=-1": `400 tailLines="-1": want a number, 0 or more`,
		"/exec/ns/p/c":                       "400 no command was given",
		"/healthz":                           "200 ok",
	} {
		r, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if got := fmt.Sprint(r.StatusCode, " ", strings.TrimSpace(string(b))); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestReadLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	stamp := func(s int) string { return time.Date(2026, 1, 1, 0, 0, s, 5, time.UTC).Format(time.RFC3339Nano) }
	old := stamp(1) + " stdout F one\n" + stamp(2) + " stderr F two\n"
	fresh := stamp(3) + " stdout P thr\n" + stamp(3) + " stdout F ee\n" + stamp(4) + " stdout F four\n"
	for name, text := range map[string]string{path + ".1": old, path: fresh} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	over := func() bool { return true }
	for want, o := range map[string]stream.LogOptions{
		"one\ntwo\nthree\nfour\n": {Tail: -1},
		"three\nfour\n":           {Tail: 2},
		"":                        {Tail: 0},
		"two\nthree\nfour\n":      {Tail: 3},
		"four\n":                  {Tail: -1, Since: time.Date(2026, 1, 1, 0, 0, 4, 0, time.UTC)},
		"one\ntw":                 {Tail: -1, LimitBytes: 6},
		stamp(4) + " four\n":      {Tail: 1, Timestamps: true},
	} {
		var b bytes.Buffer
		if err := stream.ReadLog(context.Background(), path, o, over, &b); err != nil || b.String() != want {
			t.Errorf("%+v: %q, %v, want %q", o, b.String(), err, want)
		}
	}
	if err := stream.ReadLog(context.Background(), path+"x", stream.LogOptions{}, over, io.Discard); !errors.Is(err, stream.ErrNotFound) {
		t.Errorf("a missing log: %v", err)
	}
}

// TestFollowLog follows over half lines and a rotation until the container has ended.
func TestFollowLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	write := func(text string) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	write("2026-01-01T00:00:00Z stdout F one\n")
	r, w := io.Pipe()
	ended := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		err := stream.ReadLog(context.Background(), path, stream.LogOptions{Tail: -1, Follow: true}, func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		}, w)
		_ = w.Close()
		done <- err
	}()
	expect := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(r, b); err != nil || string(b) != want {
			t.Fatalf("%q, %v, want %q", b, err, want)
		}
	}
	expect("one\n")
	write("2026-01-01T00:00:00Z stdout F tw")
	write("o\n")
	expect("two\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("2026-01-01T00:00:00Z stdout F three\n")
	expect("three\n")
	write("2026-01-01T00:00:00Z stdout F last\n")
	close(ended)
	expect("last\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// told counts what is written, the empty writes too, which send the header of an answer.
type told struct {
	bytes.Buffer
	began chan struct{}
	once  sync.Once
}

func (w *told) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.began) })
	return w.Buffer.Write(b)
}

// TestLogOfWhatHasJustBegun: a container that has written nothing yet has an empty log, and who follows it is told at once that there is one.
func TestLogOfWhatHasJustBegun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	running := func() bool { return false }
	w := &told{began: make(chan struct{})}
	if err := stream.AwaitLog(t.Context(), path, stream.LogOptions{Tail: -1}, running, w); err != nil || w.Len() > 0 {
		t.Errorf("no log yet: %q, %v", w.String(), err)
	}
	w = &told{began: make(chan struct{})}
	ended := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- stream.AwaitLog(t.Context(), path, stream.LogOptions{Tail: -1, Follow: true}, func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		}, w)
	}()
	<-w.began
	if err := os.WriteFile(path, []byte("2026-01-01T00:00:00Z stdout F one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	close(ended)
	if err := <-done; err != nil || w.String() != "one\n" {
		t.Errorf("followed: %q, %v", w.String(), err)
	}
}

// authority signs certificates for the test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) issue(t *testing.T, subject pkix.Name) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOnlyServersMayCall(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- stream.Run(ctx, stream.Config{Listener: l, TLS: &tls.Config{ClientCAs: pool, Certificates: []tls.Certificate{ca.issue(t, pkix.Name{CommonName: "n1"})}},
			ClientNames: []string{"server"}, Backend: backend{}, Log: slog.New(slog.DiscardHandler)})
	}()
	for _, tc := range []struct {
		who  string
		cert *tls.Certificate
		want int
	}{
		{"a server", ptr(ca.issue(t, pkix.Name{CommonName: "server"})), 200},
		{"an admin", ptr(ca.issue(t, pkix.Name{CommonName: "me", Organization: []string{"system:masters"}})), 200},
		{"another node", ptr(ca.issue(t, pkix.Name{CommonName: "system:node:n2", Organization: []string{"system:nodes"}})), 403},
		{"a stranger", ptr(other.issue(t, pkix.Name{CommonName: "server"})), 0},
		{"nobody", nil, 0},
	} {
		tc2 := &tls.Config{RootCAs: pool}
		if tc.cert != nil {
			tc2.Certificates = []tls.Certificate{*tc.cert}
		}
		c := http.Client{Transport: &http.Transport{TLSClientConfig: tc2, DisableKeepAlives: true}}
		r, err := c.Get("https://" + l.Addr().String() + "/containerLogs/ns/p/c")
		got := 0
		if err == nil {
			got = r.StatusCode
			_ = r.Body.Close()
		}
		if got != tc.want {
			t.Errorf("%s got %d (%v), want %d", tc.who, got, err, tc.want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func ptr[T any](v T) *T { return &v }
