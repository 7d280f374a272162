package proxytest

import (
	"net/netip"
	"testing"

	"reconcile/proxy"
	"reconcile/proxy/model"
)

// The addresses of the network that every Env has: a node with two pods, another node with one, and a client outside.
var (
	Node    = netip.MustParseAddr("192.168.77.1")
	Peer    = netip.MustParseAddr("192.168.77.2")
	Outside = netip.MustParseAddr("192.168.77.9")
	PodA    = netip.MustParseAddr("10.244.1.2")
	PodB    = netip.MustParseAddr("10.244.1.3")
	PeerPod = netip.MustParseAddr("10.244.2.2")
	DNS     = netip.MustParseAddr("10.96.0.10")
)

// Ports that every pod answers on, over TCP and UDP, and the port on which a daemon of the node answers on all its addresses.
const (
	PodPort    uint16 = 8080
	SecondPort uint16 = 8081
	DaemonPort uint16 = 2222
)

// Facts are what the node's kernel is set up with.
func Facts() model.Facts {
	return model.Facts{
		NodeAddrs:   []netip.Addr{Node},
		PodCIDR:     netip.MustParsePrefix("10.244.1.0/24"),
		ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"),
		DNSAddr:     DNS,
	}
}

// Outcome is what a client sees.
type Outcome string

// The outcomes of a connection.
const (
	Answered Outcome = "answered"
	Refused  Outcome = "refused"
	Silent   Outcome = "silent"
)

// Reply is what a client learns from one question: who answered, and which client address that saw.
type Reply struct {
	Outcome Outcome
	Backend netip.AddrPort
	Source  netip.Addr
}

// Conn is an open conversation of a client.
type Conn interface {
	// Ask sends a question and waits for the answer, a second at most.
	Ask() Reply
	Close()
}

// Env is a kernel and a network to try it in.
type Env interface {
	// Open returns another handle on the same kernel, as a restarted process has it.
	Open(t *testing.T) proxy.Kernel
	// Dial begins a conversation from one of the addresses above: a pod's, the node's own, or a machine's outside. The
	// connection is made, or fails, with it.
	Dial(from netip.Addr, proto model.Protocol, to netip.AddrPort) (Conn, Outcome)
}

// send asks one question in a conversation of its own.
func send(e Env, from netip.Addr, proto model.Protocol, to netip.AddrPort) Reply {
	c, outcome := e.Dial(from, proto, to)
	if outcome != Answered {
		return Reply{Outcome: outcome}
	}
	defer c.Close()
	return c.Ask()
}
