package pki

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// handshakeLimit ends connections that do not finish the TLS handshake, and maxHandshakes bounds how many may be at it: each holds a descriptor and a
// goroutine, and raft's connections come through here too. When there are more, the one that has waited longest is closed: who means to speak is done in
// milliseconds, and who says nothing keeps nobody out.
const (
	handshakeLimit = 5 * time.Second
	maxHandshakes  = 1024
)

// acceptPause is the wait after an error of accept that passes.
const acceptPause = 50 * time.Millisecond

// Mux hands the connections of one TLS listener, by ALPN protocol, to the parts that speak it. Register with Listen before Run.
type Mux struct {
	ln    net.Listener
	tls   *tls.Config
	log   *slog.Logger
	parts map[string]*part
	other *part

	limit time.Duration // of a handshake
	most  int           // of handshakes at a time

	mu      sync.Mutex
	waiting *list.List // of the net.Conns in their handshake, the oldest first
}

// NewMux makes a Mux over a TCP listener, which it closes when Run ends.
func NewMux(ln net.Listener, cfg *tls.Config, log *slog.Logger) *Mux {
	return &Mux{ln: ln, tls: cfg, log: log, parts: map[string]*part{}, limit: handshakeLimit, most: maxHandshakes, waiting: list.New()}
}

// Listen returns the listener of the given protocols. Clients that negotiate nothing get http/1.1. The connections it yields are
// *tls.Conn whose handshake is done. Closing it refuses further connections of the protocols and touches no others.
func (m *Mux) Listen(protos ...string) net.Listener {
	p := &part{addr: m.ln.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	for _, proto := range protos {
		m.parts[proto] = p
		if proto == ProtoHTTP1 {
			m.other = p
		}
	}
	return p
}

// Run accepts connections until ctx ends or the listener fails. It returns after all handshakes have ended; connections that were
// handed over are their new owners'.
func (m *Mux) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { m.ln.Close() })
	defer stop()
	for {
		conn, err := m.ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !passing(err) {
				return fmt.Errorf("accept on %s: %w", m.ln.Addr(), err)
			}
			m.log.Warn("cannot take a connection; trying again", "address", m.ln.Addr().String(), "error", err, "after", acceptPause)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		at := m.enter(conn)
		wg.Go(func() { m.hand(ctx, conn, at) })
	}
}

// enter notes a connection whose handshake begins, and closes the oldest if there are too many.
func (m *Mux) enter(conn net.Conn) *list.Element {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting.Len() >= m.most {
		if oldest, ok := m.waiting.Remove(m.waiting.Front()).(net.Conn); ok {
			m.log.Debug("too many connections in their handshake; closing the oldest", "from", oldest.RemoteAddr().String(), "bound", m.most)
			oldest.Close()
		}
	}
	return m.waiting.PushBack(conn)
}

// leave notes that a handshake has ended.
func (m *Mux) leave(at *list.Element) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting.Remove(at)
}

// passing tells whether a listener may accept again after an error: the next client must not end the cluster's port because
// another has gone, or because descriptors or memory are short for a moment.
func passing(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EMFILE) ||
		errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// Close closes the listener of a Mux that is not to Run.
func (m *Mux) Close() error { return m.ln.Close() }

// hand does the handshake and gives the connection to its part.
func (m *Mux) hand(ctx context.Context, conn net.Conn, at *list.Element) {
	c := tls.Server(conn, m.tls)
	hctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	err := c.HandshakeContext(hctx)
	m.leave(at)
	if err != nil {
		m.log.Debug("TLS handshake failed", "from", conn.RemoteAddr().String(), "err", err)
		conn.Close()
		return
	}
	cs := c.ConnectionState()
	p := m.parts[cs.NegotiatedProtocol]
	if p == nil && cs.NegotiatedProtocol == "" {
		p = m.other
	}
	inner := cs.NegotiatedProtocol == ProtoRaft || cs.NegotiatedProtocol == ProtoForward
	if p == nil || inner && !InGroup(cs, GroupServers) {
		m.log.Warn("connection refused", "from", conn.RemoteAddr().String(), "protocol", cs.NegotiatedProtocol, "reason", "only servers of this cluster speak it")
		c.Close()
		return
	}
	select {
	case p.conns <- c:
	case <-p.done:
		c.Close()
	case <-ctx.Done():
		c.Close()
	}
}

// part is the listener of one protocol.
type part struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Accept implements net.Listener.
func (p *part) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *part) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements net.Listener.
func (p *part) Addr() net.Addr { return p.addr }
