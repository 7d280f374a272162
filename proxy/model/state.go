package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols a Service may have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the protocol as Kubernetes spells it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return strconv.Itoa(int(p))
}

// Frontend is an address that clients of a service connect to. It identifies a Service within a State.
type Frontend struct {
	Addr  netip.Addr
	Proto Protocol
	Port  uint16
}

// String is the frontend as a person reads it: "10.96.4.7:80/TCP".
func (f Frontend) String() string {
	return netip.AddrPortFrom(f.Addr, f.Port).String() + "/" + f.Proto.String()
}

// Compare orders frontends by address, port and protocol.
func (f Frontend) Compare(o Frontend) int {
	return cmp.Or(f.Addr.Compare(o.Addr), cmp.Compare(f.Port, o.Port), cmp.Compare(f.Proto, o.Proto))
}

// Backend is the address of one endpoint.
type Backend = netip.AddrPort

// Masquerade tells which connections reach a backend with the node's address as their source instead of the client's.
// A pod that reaches itself through a service is always masqueraded.
type Masquerade uint8

const (
	// MasqueradeOffCluster masquerades clients that are no pods, so that replies come back through this node.
	MasqueradeOffCluster Masquerade = iota
	// MasqueradeAlways masquerades all: traffic from outside that may leave to another node (externalTrafficPolicy Cluster).
	MasqueradeAlways
	// MasqueradeNever keeps the client's address (externalTrafficPolicy Local).
	MasqueradeNever
)

// String is the mode's name as operations print it.
func (m Masquerade) String() string {
	return [...]string{"off-cluster", "always", "never"}[m]
}

// Empty is what happens to a connection to a service that has no backend.
type Empty uint8

const (
	// Reject answers at once: connection refused.
	Reject Empty = iota
	// Drop answers nothing. It is for services whose traffic policy is Local and that have endpoints on other nodes only.
	Drop
)

// String is the name as operations print it.
func (e Empty) String() string {
	return [...]string{"reject", "drop"}[e]
}

// Attributes are what a kernel must know of a service besides its backends.
type Attributes struct {
	Masquerade Masquerade
	Empty      Empty
	// Affinity is how long a client's address stays with its backend after its last new connection; 0 means no affinity.
	Affinity time.Duration
}

// Service is one virtual service: a frontend and the backends to which its connections go, each with the same probability.
// A Service inside a State is shared and must not be changed.
type Service struct {
	Frontend Frontend
	// Name is "namespace/name:port" for people. Kernels do not keep it and comparisons leave it out.
	Name string
	Attributes
	// Backends are the endpoints that take new connections, in order and each once.
	Backends []Backend
}

// Equal tells whether a kernel would treat both services alike.
func (s Service) Equal(o Service) bool {
	return s.Frontend == o.Frontend && s.Attributes == o.Attributes && slices.Equal(s.Backends, o.Backends)
}

// State is everything that a kernel load balancer does. The zero value is an empty state that may be read.
type State map[Frontend]Service

// Frontends returns the frontends of s in order. The caller owns the slice.
func (s State) Frontends() []Frontend {
	out := make([]Frontend, 0, len(s))
	for f := range s {
		out = append(out, f)
	}
	slices.SortFunc(out, Frontend.Compare)
	return out
}

// Equal tells whether a kernel would treat both states alike.
func (s State) Equal(o State) bool {
	if len(s) != len(o) {
		return false
	}
	for f, a := range s {
		if b, ok := o[f]; !ok || !a.Equal(b) {
			return false
		}
	}
	return true
}

// Facts are what a kernel must know about the node and the cluster besides the services.
type Facts struct {
	// NodeAddrs are the node's addresses, the main one first. Node ports are served on them, and the host's own connections to
	// services come from the first.
	NodeAddrs []netip.Addr
	// PodCIDR is the range of this node's pods; it is not valid until the node has been allotted one.
	PodCIDR netip.Prefix
	// ClusterCIDR is the range of all pods and ServiceCIDR that of all ClusterIPs.
	ClusterCIDR, ServiceCIDR netip.Prefix
	// DNSAddr is the ClusterIP that the DNS server of each node answers on. Traffic to it stays on the node.
	DNSAddr netip.Addr
}

// Equal tells whether both facts are the same.
func (f Facts) Equal(o Facts) bool {
	return slices.Equal(f.NodeAddrs, o.NodeAddrs) && f.PodCIDR == o.PodCIDR && f.ClusterCIDR == o.ClusterCIDR &&
		f.ServiceCIDR == o.ServiceCIDR && f.DNSAddr == o.DNSAddr
}

// MainAddr is the first of the node's addresses, or the zero Addr while none is known.
func (f Facts) MainAddr() netip.Addr {
	if len(f.NodeAddrs) == 0 {
		return netip.Addr{}
	}
	return f.NodeAddrs[0]
}
