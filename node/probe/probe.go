package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Kind says what a probe decides.
type Kind string

// The kinds of probes.
const (
	Startup   Kind = "Startup"
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
)

// State is what is known from one probe of one container.
type State struct {
	// Last is when it was asked last; zero is never.
	Last time.Time
	// Successes and Failures count the last answers in a row.
	Successes, Failures int
	// Done tells that a threshold was reached; OK is the verdict then. Before it the verdict is the kind's default: a readiness
	// probe is not ready, a startup probe has not started, a liveness probe is alive.
	Done, OK bool
	// Message is of the last failure.
	Message string
}

// quick is the wait after a failed first answer of a readiness or startup probe that has never succeeded, while the program may just
// be starting. It grows with each failure until the probe's own period.
const quick = 20 * time.Millisecond

// Due is when the probe is to be asked next. started is when the container did.
func Due(p *corev1.Probe, kind Kind, s State, started time.Time) time.Time {
	first := started.Add(seconds(p.InitialDelaySeconds))
	if s.Last.IsZero() {
		if kind == Liveness { // a program that has just been executed is not dead because it does not listen yet
			first = started.Add(max(seconds(p.InitialDelaySeconds), starting))
		}
		return first
	}
	wait := seconds(max(p.PeriodSeconds, 1))
	// Early answers of "not yet" are not counted as failures (see Observe), so asking sooner changes no threshold.
	if kind != Liveness && !s.OK && s.Successes == 0 && s.Last.Sub(first) < wait {
		wait = min(wait, max(quick, s.Last.Sub(first)/2))
	}
	return s.Last.Add(wait)
}

// starting is how long a container's early answers do not count against it. A kubelet notices a start up to a second late, and pods
// are written for that.
const starting = time.Second

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// Observe counts one answer. changed tells that the verdict became another one; failed that the failure threshold was reached,
// which restarts a container for startup and liveness probes.
func Observe(p *corev1.Probe, kind Kind, s State, started, now time.Time, err error) (next State, changed, failed bool) {
	next = s
	early := kind != Liveness && !s.OK && now.Sub(started.Add(seconds(p.InitialDelaySeconds))) < seconds(max(p.PeriodSeconds, 1))
	next.Last = now
	if err == nil {
		next.Failures, next.Message = 0, ""
		next.Successes++
		if next.Successes >= int(max(p.SuccessThreshold, 1)) {
			next.Done, next.OK = true, true
		}
	} else {
		next.Successes, next.Message = 0, err.Error()
		// Within the first period the program may just be starting: at most one failure counts, as if asked once, and none at first.
		if !early || (s.Failures == 0 && now.Sub(started.Add(seconds(p.InitialDelaySeconds))) >= starting) {
			next.Failures++
		}
		if next.Failures >= int(max(p.FailureThreshold, 1)) {
			next.Done, next.OK, failed = true, false, true
		}
	}
	return next, next.Done != s.Done || next.OK != s.OK, failed
}

// Target is where a container is asked.
type Target struct {
	PodIP     string
	Container *corev1.Container
	// Exec runs a command in the container and returns its exit code and output.
	Exec func(ctx context.Context, command []string) (code int, output string, err error)
}

// errTimeout is the error of a probe that took longer than timeoutSeconds.
var errTimeout = errors.New("it took longer than its timeout")

// Do asks once and blocks at most for the probe's timeout. nil is a success.
func Do(ctx context.Context, p *corev1.Probe, t Target) error {
	ctx, cancel := context.WithTimeoutCause(ctx, seconds(max(p.TimeoutSeconds, 1)), errTimeout)
	defer cancel()
	switch {
	case p.Exec != nil:
		return doExec(ctx, p.Exec.Command, t)
	case p.HTTPGet != nil:
		return doHTTP(ctx, p.HTTPGet, t)
	case p.TCPSocket != nil:
		return doTCP(ctx, p.TCPSocket, t)
	case p.GRPC != nil:
		return errors.New("grpc probes are not supported yet; use httpGet, tcpSocket or exec")
	}
	return nil
}

func doExec(ctx context.Context, command []string, t Target) error {
	code, out, err := t.Exec(ctx, command)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("command %q timed out", strings.Join(command, " "))
		}
		return err
	}
	if code != 0 {
		return fmt.Errorf("command exited with code %d: %s", code, strings.TrimSpace(out))
	}
	return nil
}

// port resolves a number, or the name of one of the container's ports.
func port(p intstr.IntOrString, c *corev1.Container) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				n = int(cp.ContainerPort)
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("the container has no port %q", p.String())
	}
	return n, nil
}

// address is where a probe goes: the pod, unless it names another host.
func address(host string, p intstr.IntOrString, t Target) (string, error) {
	n, err := port(p, t.Container)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = t.PodIP
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

func doTCP(ctx context.Context, a *corev1.TCPSocketAction, t Target) error {
	addr, err := address(a.Host, a.Port, t)
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func doHTTP(ctx context.Context, a *corev1.HTTPGetAction, t Target) error {
	addr, err := address(a.Host, a.Port, t)
	if err != nil {
		return err
	}
	u, err := url.Parse(a.Path)
	if err != nil {
		return err
	}
	u.Scheme, u.Host = strings.ToLower(string(a.Scheme)), addr
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1.36")
	req.Header.Set("Accept", "*/*")
	for _, h := range a.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
		}
	}
	// One connection a question, and the certificate is not checked, as in Kubernetes.
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, Proxy: nil}
	defer tr.CloseIdleConnections()
	c := http.Client{Transport: tr, CheckRedirect: sameHost}
	r, err := c.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, _ = io.CopyN(io.Discard, r.Body, 10<<10)
	if r.StatusCode < 200 || r.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", r.StatusCode)
	}
	return nil
}

// sameHost follows redirects on the same host; another host's counts as an answer.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
