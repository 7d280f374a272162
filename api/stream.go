package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/authz"
)

// agentDial bounds the connection to an agent.
const agentDial = 10 * time.Second

// stream tunnels an upgraded connection (WebSocket or SPDY) to the agent of the pod's node: the request goes there under the
// kubelet's path with its upgrade headers, the answer comes back as it is, and then bytes flow both ways until either side ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, t target, path string) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && !strings.HasPrefix(strings.ToUpper(r.Header.Get("Upgrade")), "SPDY/") {
		return badRequest("Upgrade request required")
	}
	pod, container, node, err := s.podOn(r.Context(), t)
	if err != nil {
		return err
	}
	addr, cfg, err := s.cfg.Agents.Endpoint(node)
	if err != nil {
		return apierrors.NewServiceUnavailable(err.Error())
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: agentDial}, Config: cfg}
	agent, err := d.DialContext(r.Context(), "tcp", addr)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("the agent of node %s does not answer: %v", node.Name, err))
	}
	defer agent.Close()

	to := "/" + path + "/" + pod.Namespace + "/" + pod.Name
	if container != "" {
		to += "/" + container
	}
	if err := forwardUpgrade(agent, r, addr, to, t.query); err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("send to the agent of node %s: %v", node.Name, err))
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("take over the connection: %w", err))
	}
	defer client.Close()
	// A connection that was taken over is not the HTTP server's to close any more: it ends with the server all the same.
	defer context.AfterFunc(r.Context(), func() {
		client.Close()
		agent.Close()
	})()
	if err := client.SetDeadline(time.Time{}); err != nil {
		return nil //nolint:nilerr // the client has gone
	}
	tun := tunnel{client: client, agent: agent, fromClient: buffered.Reader, limits: s.cfg.Limits}
	if dropped := tun.run(); dropped != "" {
		s.cfg.Log.Info("a stream is ended", "reason", dropped, "kind", path, "pod", pod.Namespace+"/"+pod.Name, "node", node.Name,
			"client", r.RemoteAddr, "user", authz.UserFrom(r.Context()).Name)
	}
	return nil
}

// forwardUpgrade sends the request to the agent. Streams are asked for by the names that both kubectl and kubelets use.
func forwardUpgrade(agent net.Conn, r *http.Request, host, path string, query url.Values) error {
	q := url.Values{}
	for name, values := range query {
		if name != "container" {
			q[name] = values
		}
	}
	u := url.URL{Path: path, RawQuery: q.Encode()}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, u.RequestURI(), host)
	for name, values := range r.Header {
		if name == "Authorization" || strings.HasPrefix(name, "Impersonate-") {
			continue
		}
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	if r.Method == http.MethodPost && r.Header.Get("Content-Length") == "" {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	_, err := io.WriteString(agent, b.String())
	return err
}

// tunnel is the two connections of a stream.
type tunnel struct {
	client, agent net.Conn
	// fromClient reads what the client has said already, and then the rest.
	fromClient io.Reader
	limits     Limits
	zero       time.Time
	// heard is when either side last said something, after zero.
	heard atomic.Int64
	// answered tells that the agent has said something at all.
	answered atomic.Bool
}

// run copies both ways and returns when both have ended, with the reason if it was neither of the two sides that ended it. When one way ends the other
// connection is closed: the protocols above end their streams by messages of their own, so there is nothing to wait for.
func (t *tunnel) run() (dropped string) {
	t.zero = time.Now()
	probe(t.client, t.limits.StreamSilence)
	probe(t.agent, t.limits.StreamSilence)
	over := make(chan struct{})
	var both, watch sync.WaitGroup
	both.Go(func() { t.copy(t.agent, t.fromClient, nil) })
	both.Go(func() { t.copy(t.client, t.agent, &t.answered) })
	watch.Go(func() {
		if dropped = t.await(over); dropped != "" {
			t.client.Close()
			t.agent.Close()
		}
	})
	both.Wait()
	close(over)
	watch.Wait()
	return dropped
}

// copy copies until either side ends, and then closes both.
func (t *tunnel) copy(to net.Conn, from io.Reader, said *atomic.Bool) {
	defer t.client.Close()
	defer t.agent.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			t.heard.Store(int64(time.Since(t.zero)))
			if said != nil {
				said.Store(true)
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// await returns why the tunnel must end, or nothing when it is over.
func (t *tunnel) await(over <-chan struct{}) string {
	l := t.limits
	tick := time.NewTicker(min(l.StreamAnswer, l.StreamIdle, l.StreamSilence) / 4)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return ""
		case <-tick.C:
		}
		switch since := time.Since(t.zero); {
		case !t.answered.Load() && since > l.StreamAnswer:
			return "the agent does not answer"
		case since-time.Duration(t.heard.Load()) > l.StreamIdle:
			return "nobody said anything"
		case silent(t.client, l.StreamSilence):
			return "the client's machine confirms nothing"
		case silent(t.agent, l.StreamSilence):
			return "the node confirms nothing"
		}
	}
}
