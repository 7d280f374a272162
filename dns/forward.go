package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// attemptTimeout bounds one question to one server.
	attemptTimeout = 1500 * time.Millisecond
	// maxForwards bounds the questions that wait for other servers. If one of those asks us again, in a circle, this is where the
	// circle ends instead of in a machine without sockets.
	maxForwards = 500
	// configAge is how long the list of servers is used before the file is looked at again.
	configAge = time.Second
)

var (
	errNoUpstream = errors.New("no other DNS server is configured")
	errBusy       = errors.New("too many questions wait for other DNS servers")
)

// upstreams forwards to the servers of a resolv.conf. It is safe for concurrent use.
type upstreams struct {
	path string
	// own are the addresses that we answer on: a resolv.conf that names one would send us our own questions.
	own   []netip.AddrPort
	slots chan struct{}

	mu      sync.Mutex
	servers []string
	looked  time.Time
	changed time.Time
}

func newUpstreams(path string, own []netip.AddrPort) *upstreams {
	return &upstreams{path: path, own: own, slots: make(chan struct{}, maxForwards)}
}

// forward implements forwarder. It asks the servers in order, twice, until one answers.
func (u *upstreams) forward(ctx context.Context, q *dns.Msg, tcp bool) (*dns.Msg, error) {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	default:
		return nil, errBusy
	}
	servers, err := u.list(time.Now())
	if err != nil {
		return nil, err
	}
	out := q.Copy()
	out.Id = dns.Id()
	c := dns.Client{Net: "udp", Timeout: attemptTimeout}
	if tcp {
		c.Net = "tcp"
	}
	err = errNoUpstream
	for range 2 {
		for _, s := range servers {
			var got *dns.Msg
			got, _, err = c.ExchangeContext(ctx, out, s)
			if err == nil {
				return got, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	return nil, err
}

// list is the servers to ask, read again when the file has changed.
func (u *upstreams) list(now time.Time) ([]string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.looked) < configAge {
		return u.servers, nil
	}
	st, err := os.Stat(u.path)
	if err != nil {
		return nil, fmt.Errorf("read the list of DNS servers: %w", err)
	}
	u.looked = now
	if st.ModTime().Equal(u.changed) {
		return u.servers, nil
	}
	conf, err := dns.ClientConfigFromFile(u.path)
	if err != nil {
		return nil, fmt.Errorf("read the list of DNS servers from %s: %w", u.path, err)
	}
	u.changed, u.servers = st.ModTime(), nil
	for _, s := range conf.Servers {
		addr, err := netip.ParseAddr(s)
		if err == nil && !u.isOwn(addr) {
			u.servers = append(u.servers, net.JoinHostPort(s, conf.Port))
		}
	}
	return u.servers, nil
}

func (u *upstreams) isOwn(a netip.Addr) bool {
	for _, own := range u.own {
		if own.Addr() == a {
			return true
		}
	}
	return false
}
