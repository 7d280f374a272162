package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// State is the node's network without the pods' own links.
type State struct {
	// Gateway is the bridge's address with the node's subnet; invalid means that there is no bridge.
	Gateway netip.Prefix
	// Routes are to other nodes' pods, by subnet.
	Routes map[netip.Prefix]netip.Addr
	// Masquerade is the network whose traffic is masqueraded when it leaves Cluster; invalid means none.
	Masquerade, Cluster netip.Prefix
}

// Want is the state that a node with this subnet and these peers needs. An invalid subnet wants nothing.
func Want(subnet, cluster netip.Prefix, masquerade bool, self netip.Addr, peers []Peer) State {
	s := State{Routes: map[netip.Prefix]netip.Addr{}}
	if !subnet.IsValid() {
		return s
	}
	s.Gateway = netip.PrefixFrom(subnet.Masked().Addr().Next(), subnet.Bits())
	for _, p := range peers {
		if p.Subnet.IsValid() && p.Via.IsValid() && p.Subnet != subnet && p.Via != self {
			s.Routes[p.Subnet.Masked()] = p.Via
		}
	}
	if masquerade {
		s.Masquerade, s.Cluster = subnet.Masked(), cluster
	}
	return s
}

// Op is one change of the node's network.
type Op struct {
	// Verb is "bridge", "route", "unroute", "masquerade" or "unmasquerade".
	Verb    string
	Prefix  netip.Prefix
	Via     netip.Addr
	Cluster netip.Prefix
}

// String is the operation as a transcript shows it.
func (o Op) String() string {
	switch o.Verb {
	case "route":
		return fmt.Sprintf("route %s via %s", o.Prefix, o.Via)
	case "masquerade":
		return fmt.Sprintf("masquerade %s except to %s", o.Prefix, o.Cluster)
	case "unmasquerade":
		return o.Verb
	}
	return o.Verb + " " + o.Prefix.String()
}

// Diff is what makes have into want, in an order that can be applied. A bridge is never removed here: pods hang on it.
func Diff(want, have State) []Op {
	var ops []Op
	if want.Gateway.IsValid() && want.Gateway != have.Gateway {
		ops = append(ops, Op{Verb: "bridge", Prefix: want.Gateway})
	}
	for _, p := range sorted(have.Routes) {
		if _, ok := want.Routes[p]; !ok {
			ops = append(ops, Op{Verb: "unroute", Prefix: p, Via: have.Routes[p]})
		}
	}
	for _, p := range sorted(want.Routes) {
		if have.Routes[p] != want.Routes[p] {
			ops = append(ops, Op{Verb: "route", Prefix: p, Via: want.Routes[p]})
		}
	}
	if want.Masquerade != have.Masquerade || want.Cluster != have.Cluster {
		if want.Masquerade.IsValid() {
			ops = append(ops, Op{Verb: "masquerade", Prefix: want.Masquerade, Cluster: want.Cluster})
		} else {
			ops = append(ops, Op{Verb: "unmasquerade"})
		}
	}
	return ops
}

func sorted(m map[netip.Prefix]netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	return out
}
