package api

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// streams counts what is open to pods and nodes for as long as somebody wants it: each takes two connections and goes by no slot (flow). It is safe for
// use by several goroutines.
type streams struct {
	most, ofUser int

	mu   sync.Mutex
	all  int
	open map[string]int
}

// begin counts one more stream of a user, or tells why there may not be one. end must be called when it is over.
func (s *streams) begin(user string) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open[user] >= s.ofUser:
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d streams to pods and nodes (exec, attach, port-forward, logs, proxy) of user %q are open: end one, or try again later", s.ofUser, user), 5)
	case s.all >= s.most:
		return nil, apierrors.NewTooManyRequests(fmt.Sprintf("%d streams to pods and nodes are open on this server: try again later", s.most), 5)
	}
	s.all++
	s.open[user]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.open[user]--; s.open[user] == 0 {
			delete(s.open, user)
		}
	}, nil
}

// probe makes the system ask the other side of a connection for signs of life, often enough to tell within the limit that there are none.
func probe(c net.Conn, limit time.Duration) {
	if t := tcpOf(c); t != nil {
		each := max(limit/4, time.Second)
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: each, Interval: each, Count: 4}) // it may have gone already
	}
}

// silent tells whether the system on the other side of a connection has confirmed nothing for so long. One whose program does not read confirms all the
// same that it does not (at least each two minutes): people may hold up their terminal.
func silent(c net.Conn, limit time.Duration) bool {
	t := tcpOf(c)
	if t == nil {
		return false
	}
	since, open := heardFrom(t)
	return !open || since > limit
}

// heardFrom is for how long the system on the other side has confirmed nothing. It answers false for a connection that is closed.
func heardFrom(t *net.TCPConn) (since time.Duration, open bool) {
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if cerr != nil || err != nil {
		return 0, false
	}
	return time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond, true
}

// tcpOf is the TCP connection below a connection, nil if there is none.
func tcpOf(c net.Conn) *net.TCPConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	t, _ := c.(*net.TCPConn) // nil of what is nil
	return t
}
