package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	tunnel(client, buffered.Reader, agent)
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

// tunnel copies both ways and returns when both have ended. When one way ends the other connection is closed: the protocols above
// end their streams by messages of their own, so there is nothing to wait for.
func tunnel(client net.Conn, fromClient *bufio.Reader, agent net.Conn) {
	var wg sync.WaitGroup
	pipe := func(to net.Conn, from io.Reader) {
		//nolint:errcheck // either side may go at any time; that ends the tunnel
		io.Copy(to, from)
		to.Close()
	}
	wg.Go(func() { pipe(agent, fromClient) })
	wg.Go(func() { pipe(client, agent) })
	wg.Wait()
}
