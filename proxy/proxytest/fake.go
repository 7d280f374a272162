package proxytest

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"reconcile/proxy"
	"reconcile/proxy/model"
)

// Fake is a kernel load balancer in memory. It keeps what is programmed, fails where a kernel fails, and routes conversations as
// a kernel does. It is safe for concurrent use, and is an Env too.
type Fake struct {
	mu    sync.Mutex
	facts model.Facts
	state model.State
	// clients has the affinity table.
	clients map[client]model.Backend
	next    int
	calls   []string
	fail    error
}

type client struct {
	from netip.Addr
	to   model.Frontend
}

// NewFake makes a fake kernel that nothing is programmed in.
func NewFake() *Fake {
	return &Fake{state: make(model.State), clients: make(map[client]model.Backend)}
}

// Open implements Env.
func (k *Fake) Open(*testing.T) proxy.Kernel { return k }

// Name implements proxy.Kernel.
func (k *Fake) Name() string { return "fake" }

// Close implements proxy.Kernel.
func (k *Fake) Close() error { return nil }

// Fail makes the next calls of Apply return err after having done half of their operations; nil ends that.
func (k *Fake) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// Calls returns what was called since the last call of Calls, one line each ("apply 3", "setup", "list").
func (k *Fake) Calls() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.calls
	k.calls = nil
	return out
}

// Setup implements proxy.Kernel.
func (k *Fake) Setup(_ context.Context, f model.Facts) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, "setup")
	k.facts = f
	return nil
}

// List implements proxy.Kernel.
func (k *Fake) List(context.Context) (model.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, "list")
	out := make(model.State, len(k.state))
	for f, s := range k.state {
		s.Name = ""
		out[f] = s
	}
	return out, nil
}

// Apply implements proxy.Kernel.
func (k *Fake) Apply(_ context.Context, d model.Delta) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, "apply")
	for i, op := range d {
		if k.fail != nil && i >= len(d)/2 {
			return k.fail
		}
		if err := k.state.Apply(op); err != nil {
			return err
		}
	}
	return nil
}

// Drain implements proxy.Kernel.
func (k *Fake) Drain(context.Context) (time.Duration, error) { return 0, nil }

// Dial implements Env: it decides what a kernel would do with the first packet.
func (k *Fake) Dial(from netip.Addr, proto model.Protocol, to netip.AddrPort) (Conn, Outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	reply := k.route(from, model.Frontend{Addr: to.Addr(), Proto: proto, Port: to.Port()})
	if reply.Outcome != Answered && proto == model.TCP {
		return nil, reply.Outcome
	}
	return &fakeConn{k: k, from: from, to: model.Frontend{Addr: to.Addr(), Proto: proto, Port: to.Port()}, reply: reply}, Answered
}

// route is the data plane. The caller holds the lock.
func (k *Fake) route(from netip.Addr, to model.Frontend) Reply {
	s, ok := k.state[to]
	if !ok {
		return k.noService(from, to)
	}
	if len(s.Backends) == 0 {
		if s.Empty == model.Drop {
			return Reply{Outcome: Silent}
		}
		return Reply{Outcome: Refused}
	}
	b := s.Backends[k.next%len(s.Backends)]
	k.next++
	if s.Affinity > 0 {
		c := client{from, to}
		if old, ok := k.clients[c]; ok && slices.Contains(s.Backends, old) {
			b = old
		}
		k.clients[c] = b
	}
	source := from
	isPod := k.facts.ClusterCIDR.Contains(from)
	if b.Addr() == from || s.Masquerade == model.MasqueradeAlways || (s.Masquerade == model.MasqueradeOffCluster && !isPod) {
		source = k.facts.NodeAddrs[0]
	}
	return Reply{Outcome: Answered, Backend: b, Source: source}
}

// noService is what happens to a packet that no service is for: the service range is local and guarded, the node's daemons answer
// on the node's address.
func (k *Fake) noService(from netip.Addr, to model.Frontend) Reply {
	switch {
	case to.Addr == k.facts.DNSAddr && to.Port == 53:
		return Reply{Outcome: Answered, Backend: netip.AddrPortFrom(to.Addr, to.Port), Source: from}
	case k.facts.ServiceCIDR.Contains(to.Addr):
		return Reply{Outcome: Refused}
	case slices.Contains(k.facts.NodeAddrs, to.Addr) && to.Port == DaemonPort:
		return Reply{Outcome: Answered, Backend: netip.AddrPortFrom(to.Addr, to.Port), Source: from}
	case slices.Contains(k.facts.NodeAddrs, to.Addr):
		return Reply{Outcome: Refused}
	}
	return Reply{Outcome: Silent}
}

// fakeConn is a conversation. TCP stays with its backend to the end, as connection tracking has it; UDP moves when the backend
// is no longer one.
type fakeConn struct {
	k     *Fake
	from  netip.Addr
	to    model.Frontend
	reply Reply
}

// Ask implements Conn.
func (c *fakeConn) Ask() Reply {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if s, ok := c.k.state[c.to]; c.to.Proto == model.UDP && (!ok || !slices.Contains(s.Backends, c.reply.Backend)) {
		c.reply = c.k.route(c.from, c.to)
	}
	return c.reply
}

// Close implements Conn.
func (c *fakeConn) Close() {}
