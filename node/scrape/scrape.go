package scrape

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// The bounds of what a pod may answer: in all, a line, and the lines that are kept.
const (
	maxAnswer = 16 << 20
	maxLine   = 64 << 10
	maxKept   = 1 << 20
)

// Patience is how long a pod may take to answer.
const Patience = 5 * time.Second

// Scraper asks pods. It is safe for use by several goroutines.
type Scraper struct {
	client http.Client
	turns  turns
	// pod asks one pod; late tells whether it did not answer in time.
	pod func(ctx context.Context, p *corev1.Pod, queries []object.MetricQuery) (out object.PodSamples, late bool)
}

// New makes a Scraper. Connections are made in the network namespace of the calling process, go through no proxy, follow no redirect, and do not ask
// whose certificate an HTTPS pod has, as a probe does not.
func New() *Scraper {
	tr := &http.Transport{DialContext: (&net.Dialer{Timeout: Patience}).DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the pod is on this machine
		Proxy: nil, MaxIdleConnsPerHost: 1, IdleConnTimeout: 45 * time.Second, MaxResponseHeaderBytes: maxLine}
	s := &Scraper{client: http.Client{Transport: tr, Timeout: Patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	s.pod = s.one
	return s
}

// Close ends the connections that are kept.
func (s *Scraper) Close() { s.client.CloseIdleConnections() }

// one asks a pod of this node. It does not fail: the answer tells why there is nothing.
func (s *Scraper) one(ctx context.Context, p *corev1.Pod, queries []object.MetricQuery) (out object.PodSamples, late bool) {
	out = object.PodSamples{Namespace: p.Namespace, Name: p.Name}
	var err error
	out.Samples, out.At, err = s.ask(ctx, p, queries)
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		out.Fault, late = "its metrics did not come in time", true
	case err != nil:
		out.Fault = err.Error()
	}
	return out, late
}

func (s *Scraper) ask(ctx context.Context, p *corev1.Pod, queries []object.MetricQuery) ([]object.Sample, time.Time, error) {
	at, err := target(p)
	if err != nil {
		return nil, time.Time{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4;q=1,*/*;q=0.1")
	req.Header.Set("User-Agent", "reconcile")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, time.Time{}, fmt.Errorf("%s answers %s", at, res.Status)
	}
	now := time.Now()
	lines, err := pick(io.LimitReader(res.Body, maxAnswer+1), queries)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read %s: %w", at, err)
	}
	samples, err := sums(bytes.NewReader(lines), queries)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read %s: %w", at, err)
	}
	return samples, now, nil
}

// target is where a pod serves its metrics.
func target(p *corev1.Pod) (string, error) {
	get := func(name, otherwise string) string {
		if v := p.Annotations[name]; v != "" {
			return v
		}
		return otherwise
	}
	if get(object.AnnotationScrape, "") != "true" {
		return "", fmt.Errorf("it has no annotation %s: \"true\"", object.AnnotationScrape)
	}
	ip, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil {
		return "", errors.New("it has no address")
	}
	scheme := get(object.AnnotationScrapeScheme, "http")
	if scheme != "http" && scheme != "https" {
		return "", fmt.Errorf("annotation %s is %q: want http or https", object.AnnotationScrapeScheme, scheme)
	}
	port, err := portOf(p, get(object.AnnotationScrapePort, ""))
	if err != nil {
		return "", err
	}
	path, err := url.Parse(get(object.AnnotationScrapePath, "/metrics"))
	if err != nil || path.Host != "" || path.Scheme != "" || !strings.HasPrefix(path.Path, "/") {
		return "", fmt.Errorf("annotation %s is %q: want a path that begins with /", object.AnnotationScrapePath, p.Annotations[object.AnnotationScrapePath])
	}
	path.Scheme, path.Host = scheme, netip.AddrPortFrom(ip, port).String()
	return path.String(), nil
}

// portOf is the port that the annotation says, or else the first of the containers'.
func portOf(p *corev1.Pod, said string) (uint16, error) {
	if said != "" {
		n, err := strconv.ParseUint(said, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("annotation %s is %q: want a port", object.AnnotationScrapePort, said)
		}
		return uint16(n), nil
	}
	for _, c := range p.Spec.Containers {
		for _, x := range c.Ports {
			if x.Protocol == corev1.ProtocolTCP || x.Protocol == "" {
				return uint16(x.ContainerPort), nil
			}
		}
	}
	return 0, fmt.Errorf("it has no annotation %s, and no container with a port", object.AnnotationScrapePort)
}

// pick keeps the lines of series that queries may ask for. Comments are left out: without them each series is read by its own name.
func pick(r io.Reader, queries []object.MetricQuery) ([]byte, error) {
	names := map[string]bool{}
	for _, q := range queries {
		for _, n := range seriesOf(q.Name) {
			names[n] = true
		}
	}
	var out bytes.Buffer
	read := 0
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 4<<10), maxLine)
	for sc.Scan() {
		line := bytes.TrimLeft(sc.Bytes(), " \t")
		if read += len(sc.Bytes()) + 1; read > maxAnswer {
			return nil, fmt.Errorf("more than %d MiB", maxAnswer>>20)
		}
		end := bytes.IndexAny(line, "{ \t")
		if end <= 0 || !names[string(line[:end])] {
			continue
		}
		if out.Len()+len(line) > maxKept {
			return nil, fmt.Errorf("the series that are asked for have more than %d KiB", maxKept>>10)
		}
		out.Write(line)
		out.WriteByte('\n')
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
