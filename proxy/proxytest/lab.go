package proxytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"reconcile/internal/needs"
	"reconcile/internal/netnstest"
	"reconcile/proxy"
	"reconcile/proxy/model"
)

// patience is how long a client waits before it calls a silence one.
const patience = 2 * time.Second

// Lab is the real network of the suite, made of network namespaces: the node that is tested, with two pods; a peer with one; and
// a machine outside that routes services to the node.
type Lab struct {
	// Node is the machine whose kernel is programmed.
	Node *netnstest.Machine

	open     func() (proxy.Kernel, error)
	machines map[netip.Addr]*netnstest.Machine
}

// NewLab builds the network. open opens the kernel under test; it is called inside the node's namespace.
func NewLab(t *testing.T, open func() (proxy.Kernel, error)) *Lab {
	t.Helper()
	net := netnstest.New(t)
	lan := net.Switch("lan")
	node := net.Machine("node").Attach(lan, "eth0", Node.String()+"/24")
	peer := net.Machine("peer").Attach(lan, "eth0", Peer.String()+"/24")
	outside := net.Machine("outside").Attach(lan, "eth0", Outside.String()+"/24")
	l := &Lab{Node: node, open: open, machines: map[netip.Addr]*netnstest.Machine{Node: node, Peer: peer, Outside: outside}}
	// Off, so that it is Setup that switches it on.
	if err := node.Sysctl("net/bridge/bridge-nf-call-iptables", "0"); err != nil {
		needs.Missing(t, "the kernel needs br_netfilter:", err)
	}
	bridge(node, "10.244.1.1")
	bridge(peer, "10.244.2.1")
	l.pod(t, net, node, "a", PodA, "10.244.1.1")
	l.pod(t, net, node, "b", PodB, "10.244.1.1")
	l.pod(t, net, peer, "q", PeerPod, "10.244.2.1")
	node.Route("10.244.2.0/24", Peer.String())
	peer.Route("10.244.1.0/24", Node.String())
	for _, dst := range []string{"10.96.0.0/16", "203.0.113.0/24"} {
		outside.Route(dst, Node.String())
	}
	serve(t, node, "0.0.0.0", DaemonPort)
	serve(t, peer, Peer.String(), DaemonPort)
	return l
}

// bridge makes the bridge of a node's pods, with the gateway's address on it, as node/network does.
func bridge(node *netnstest.Machine, gateway string) {
	node.Netlink(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: cbr0}})
	})
	node.Addr(cbr0, gateway+"/24")
	node.Link(cbr0, func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetUp(link) })
}

const cbr0 = "cbr0"

// pod joins a pod to its node's bridge. The pods of one node are neighbours: a reply from one to another goes over the bridge and
// is rewritten only because bridged packets pass the hooks of IPv4 too (br_netfilter).
func (l *Lab) pod(t *testing.T, n *netnstest.Lab, node *netnstest.Machine, name string, addr netip.Addr, gateway string) {
	t.Helper()
	pod := n.Machine("pod-" + name)
	node.Pair("veth-"+name, pod, "eth0")
	node.Link("veth-"+name, func(h *netlink.Handle, link netlink.Link) error {
		br, err := h.LinkByName(cbr0)
		if err != nil {
			return err
		}
		if err := h.LinkSetMaster(link, br); err != nil {
			return err
		}
		return h.LinkSetHairpin(link, true)
	})
	pod.Addr("eth0", addr.String()+"/24")
	pod.Route("default", gateway)
	l.machines[addr] = pod
	serve(t, pod, addr.String(), PodPort)
	serve(t, pod, addr.String(), SecondPort)
}

// serve answers every line and every datagram with "OWN-ADDRESS CLIENT-ADDRESS" until the test ends.
func serve(t *testing.T, m *netnstest.Machine, addr string, port uint16) {
	t.Helper()
	at := net.JoinHostPort(addr, strconv.Itoa(int(port)))
	l, err := m.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	u, err := m.ListenUDP(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.Close(), u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprintf(c, "%s %s\n", c.LocalAddr(), c.RemoteAddr())
				}
			}()
		}
	}()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(fmt.Appendf(nil, "%s %s\n", at, from), from)
		}
	}()
}

// Machine is the machine that has one of the addresses above.
func (l *Lab) Machine(addr netip.Addr) *netnstest.Machine { return l.machines[addr] }

// Open implements Env.
func (l *Lab) Open(t *testing.T) proxy.Kernel {
	t.Helper()
	var k proxy.Kernel
	if err := l.Node.Do(func() (err error) { k, err = l.open(); return }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return inside{m: l.Node, k: k}
}

// Dial implements Env.
func (l *Lab) Dial(from netip.Addr, proto model.Protocol, to netip.AddrPort) (Conn, Outcome) {
	network := "tcp4"
	if proto == model.UDP {
		network = "udp4"
	}
	c, err := l.machines[from].Dial(network, to.String(), patience)
	if err != nil {
		return nil, outcomeOf(err)
	}
	return &realConn{c: c, in: bufio.NewReader(c)}, Answered
}

// outcomeOf tells a client that was told at once from one that waited. EPERM is what a sender on the node itself gets when its
// first packet is refused on the way out: IPVS does that for UDP.
func outcomeOf(err error) Outcome {
	for _, told := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.EPERM} {
		if errors.Is(err, told) {
			return Refused
		}
	}
	return Silent
}

type realConn struct {
	c  net.Conn
	in *bufio.Reader
}

// Ask implements Conn.
func (c *realConn) Ask() Reply {
	_ = c.c.SetDeadline(time.Now().Add(patience))
	if _, err := c.c.Write([]byte("?\n")); err != nil {
		return Reply{Outcome: outcomeOf(err)}
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return Reply{Outcome: outcomeOf(err)}
	}
	own, client, _ := strings.Cut(strings.TrimSpace(line), " ")
	backend, err := netip.ParseAddrPort(own)
	if err != nil {
		return Reply{Outcome: Silent}
	}
	source, err := netip.ParseAddrPort(client)
	if err != nil {
		return Reply{Outcome: Silent}
	}
	return Reply{Outcome: Answered, Backend: backend, Source: source.Addr()}
}

// Close implements Conn.
func (c *realConn) Close() { _ = c.c.Close() }

// inside is a kernel whose calls are made in a machine's namespace: kernel parameters are those of the calling thread.
type inside struct {
	m *netnstest.Machine
	k proxy.Kernel
}

// Name implements proxy.Kernel.
func (i inside) Name() string { return i.k.Name() }

// Setup implements proxy.Kernel.
func (i inside) Setup(ctx context.Context, f model.Facts) error {
	return i.m.Do(func() error { return i.k.Setup(ctx, f) })
}

// List implements proxy.Kernel.
func (i inside) List(ctx context.Context) (s model.State, err error) {
	err = i.m.Do(func() (err error) { s, err = i.k.List(ctx); return })
	return s, err
}

// Apply implements proxy.Kernel.
func (i inside) Apply(ctx context.Context, d model.Delta) error {
	return i.m.Do(func() error { return i.k.Apply(ctx, d) })
}

// Drain implements proxy.Kernel.
func (i inside) Drain(ctx context.Context) (again time.Duration, err error) {
	err = i.m.Do(func() (err error) { again, err = i.k.Drain(ctx); return })
	return again, err
}

// Close implements proxy.Kernel.
func (i inside) Close() error { return i.k.Close() }
