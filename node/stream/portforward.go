package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	clientforward "k8s.io/client-go/tools/portforward"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// The protocol of forwarded ports, and the WebSocket subprotocol that carries its SPDY connection. https://kep.k8s.io/4006
const (
	portForwardProtocol = "portforward.k8s.io"
	tunnelProtocol      = "SPDY/3.1+" + portForwardProtocol
)

// portForward serves any number of connections to ports of a pod over one SPDY connection, which the client opens itself or
// tunnels through a WebSocket. It ends with the client's connection or with the server.
func (h handler) portForward(w http.ResponseWriter, r *http.Request) {
	ns, pod, _ := target(r)
	if websocket.IsWebSocketUpgrade(r) {
		up := websocket.Upgrader{Subprotocols: []string{tunnelProtocol}, CheckOrigin: func(*http.Request) bool { return true }}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			h.log.Debug("websocket upgrade failed", "path", r.URL.Path, "err", err)
			return
		}
		defer func() { _ = ws.Close() }()
		if ws.Subprotocol() != tunnelProtocol {
			return // it asked for a protocol of old, which the answer did not grant
		}
		w = &tunnelWriter{header: http.Header{}, conn: clientforward.NewTunnelingConnection("server", ws)}
		r = r.Clone(r.Context())
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {portForwardProtocol}}
	}
	portforward.ServePortForward(&endingWriter{ResponseWriter: w, ctx: r.Context()}, r, forwarder{h.b, r.Context(), ns}, pod, "", nil,
		idleTimeout, creationTimeout, []string{portForwardProtocol})
}

// forwarder connects one stream with one port.
type forwarder struct {
	b         Backend
	ctx       context.Context
	namespace string
}

// PortForward implements portforward.PortForwarder. It returns when the pod's end is closed and the client's is, too.
func (f forwarder) PortForward(_ context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := f.b.Dial(f.ctx, f.namespace, pod, port)
	if err != nil {
		return fmt.Errorf("forward port %d of pod %s/%s: %w", port, f.namespace, pod, err)
	}
	defer conn.Close()
	defer context.AfterFunc(f.ctx, func() { _ = conn.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() {
		//nolint:errcheck // either side may go at any time; that ends this way
		io.Copy(conn, stream)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	})
	_, err = io.Copy(stream, conn)
	_ = stream.Close()
	wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// endingWriter makes a connection that is taken over end with ctx: the server no longer closes it.
type endingWriter struct {
	http.ResponseWriter
	ctx context.Context
}

// Hijack implements http.Hijacker.
func (e *endingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := e.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(e.ctx, func() { _ = conn.Close() })
	return &endingConn{Conn: conn, stop: stop}, rw, conn.SetDeadline(time.Time{})
}

type endingConn struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (c *endingConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// tunnelWriter shows a tunnelled connection as the answer to a request for SPDY: the header that it would begin with is not sent,
// since the WebSocket's stood for it.
type tunnelWriter struct {
	header http.Header
	conn   net.Conn
}

// Header implements http.ResponseWriter.
func (t *tunnelWriter) Header() http.Header { return t.header }

// Write implements http.ResponseWriter; only an error is written, which the tunnel has no place for.
func (t *tunnelWriter) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (t *tunnelWriter) WriteHeader(int) {}

// Hijack implements http.Hijacker.
func (t *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}
