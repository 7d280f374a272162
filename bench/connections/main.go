// Command connections measures what many clients cost a server: connections on which nothing is ever said, connections that do nothing any more, and
// watchers of one object.
//
//	make build
//	bench/netns.sh go run ./bench/connections -silent 10000 -idle 10000 -watchers 1000      as root
//
// Each client has a TLS connection of its own with the administrator's certificate. Memory is the resident set of `reconcile up`. A
// change's way is the time from its answer until the last watcher has read it. The clients run in this process, on the same processors.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"reconcile/bench/harness"
)

func main() {
	binary := flag.String("binary", "bin/reconcile", "the reconcile binary")
	silent := flag.Int("silent", 10000, "TCP connections on which no handshake begins")
	idle := flag.Int("idle", 10000, "connections that do nothing")
	watchers := flag.Int("watchers", 1000, "connections that watch one object")
	changes := flag.Int("changes", 20, "changes of the object")
	flag.Parse()
	if err := run(*binary, *silent, *idle, *watchers, *changes); err != nil {
		fmt.Fprintln(os.Stderr, "connections:", err)
		os.Exit(1)
	}
}

// clients opens connections to one server.
type clients struct {
	addr string
	tls  *tls.Config
	pid  int
}

func run(binary string, silent, idle, watchers, changes int) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	machine, err := harness.Machine()
	if err != nil {
		return err
	}
	fmt.Println(machine)
	dir, err := os.MkdirTemp("", "reconcile-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	p, err := harness.Start(ctx, binary, filepath.Join(dir, "data"), "up", "--api-addr", "127.0.0.1:16443")
	if err != nil {
		return err
	}
	defer func() {
		if err := errors.Join(p.Stop(), p.Reset()); err != nil {
			fmt.Fprintln(os.Stderr, "connections:", err)
		}
	}()
	c, err := newClients(p)
	if err != nil {
		return err
	}
	api, err := p.Client()
	if err != nil {
		return err
	}
	if err := c.silent(ctx, api, silent); err != nil {
		return err
	}
	if err := c.idle(ctx, idle); err != nil {
		return err
	}
	return c.watch(ctx, api, watchers, changes)
}

func newClients(p *harness.Process) (*clients, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cfg.CAData)
	return &clients{addr: "127.0.0.1:16443", pid: p.Pid(),
		tls: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}}, nil
}

// open opens connections, some at once, and says something on each.
func (c *clients) open(ctx context.Context, n int, request string) ([]*bufio.Reader, error) {
	readers := make([]*bufio.Reader, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range readers {
		g.Go(func() error {
			d := tls.Dialer{NetDialer: &net.Dialer{}, Config: c.tls}
			conn, err := d.DialContext(ctx, "tcp", c.addr)
			if err != nil {
				return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
			}
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", request); err != nil {
				return err
			}
			readers[i] = bufio.NewReaderSize(conn, 1<<10)
			res, err := http.ReadResponse(readers[i], nil) //nolint:bodyclose // a watch has no end, and what has one is read with the next answer
			if err == nil && res.StatusCode != http.StatusOK {
				err = errors.New(res.Status)
			}
			return err
		})
	}
	return readers, g.Wait()
}

// silent opens TCP connections and says nothing on them, until the server has closed them all. It asks for something meanwhile.
func (c *clients) silent(ctx context.Context, api kubernetes.Interface, n int) error {
	if n == 0 {
		return nil
	}
	before, err := rss(c.pid)
	if err != nil {
		return err
	}
	began := time.Now()
	var gone sync.WaitGroup
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
		gone.Go(func() {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn) // however it ends
		})
	}
	opened := time.Since(began)
	after, err := rss(c.pid)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		gone.Wait()
		close(over)
	}()
	asked, worst := 0, time.Duration(0)
	for open := true; open; asked++ {
		at := time.Now()
		if _, err := api.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		worst = max(worst, time.Since(at))
		select {
		case <-over:
			open = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	fmt.Printf("%d connections without a word, opened in %.1f s: memory %.0f -> %.0f MB; all closed %.1f s after the last; of %d reads meanwhile the longest took %s\n",
		n, opened.Seconds(), before/1e3, after/1e3, (time.Since(began) - opened).Seconds(), asked, worst.Round(time.Millisecond))
	return nil
}

// idle opens connections that have asked once, and then do nothing.
func (c *clients) idle(ctx context.Context, n int) error {
	before, err := rss(c.pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := c.open(ctx, n, "/livez"); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := rss(c.pid)
	if err != nil {
		return err
	}
	fmt.Printf("%d idle connections in %.1f s: memory %.0f -> %.0f MB, %.1f KB each\n", n, took.Seconds(), before/1e3, after/1e3, (after-before)/float64(max(n, 1)))
	return nil
}

// watch opens connections that watch one object, and changes it.
func (c *clients) watch(ctx context.Context, api kubernetes.Interface, n, changes int) error {
	before, err := rss(c.pid)
	if err != nil {
		return err
	}
	readers, err := c.open(ctx, n, "/api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name%3Dseen")
	if err != nil {
		return err
	}
	after, err := rss(c.pid)
	if err != nil {
		return err
	}
	fmt.Printf("%d watchers: memory %.0f -> %.0f MB, %.1f KB each\n", n, before/1e3, after/1e3, (after-before)/float64(max(n, 1)))
	if n <= 0 || changes <= 0 {
		return nil
	}
	cpu, err := cpuTime(c.pid)
	if err != nil {
		return err
	}
	maps := api.CoreV1().ConfigMaps("default")
	var ways []time.Duration
	for i := range changes {
		o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "seen"}, Data: map[string]string{"n": fmt.Sprint("change-", i, "-")}}
		if i == 0 {
			_, err = maps.Create(ctx, o, metav1.CreateOptions{})
		} else {
			_, err = maps.Update(ctx, o, metav1.UpdateOptions{})
		}
		if err != nil {
			return err
		}
		began := time.Now()
		if err := seen(readers, o.Data["n"]); err != nil {
			return err
		}
		ways = append(ways, time.Since(began))
	}
	used, err := cpuTime(c.pid)
	if err != nil {
		return err
	}
	slices.Sort(ways)
	fmt.Printf("%d changes: the last watcher has each after %s (median), %s (worst); %.1f us of the server's CPU an event, the writes' included\n", changes,
		ways[len(ways)/2].Round(100*time.Microsecond), ways[len(ways)-1].Round(100*time.Microsecond), (used-cpu).Seconds()*1e6/float64(changes*n))
	return nil
}

// seen waits until every watcher has read a text.
func seen(readers []*bufio.Reader, text string) error {
	var wg sync.WaitGroup
	errs := make([]error, len(readers))
	for i, r := range readers {
		wg.Go(func() {
			for {
				line, err := r.ReadBytes('\n')
				if err != nil {
					errs[i] = fmt.Errorf("watcher %d: %w", i, err)
					return
				}
				if bytes.Contains(line, []byte(text)) {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// rss is a process's resident set in KB.
func rss(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, fmt.Errorf("process %d tells no VmRSS", pid)
}

// cpuTime is the processor time that a process has used, in clock ticks of 10 ms (proc(5), fields 14 and 15 of stat).
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d tells no times", pid)
	}
	var ticks time.Duration
	for _, text := range f[11:13] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, nil
}
