package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ChainReject is the name of the chain that both kernels' tables have, with RejectRules in it.
const ChainReject = "reject-it"

// maxHairpin bounds the set of pod addresses that may meet themselves: a /20 of pods a node.
const maxHairpin = 4096

// Hairpins are the pairs (address, address) of a node's pods: nf_tables cannot compare two fields of a packet.
func Hairpins(p netip.Prefix) []nftables.SetElement {
	if !p.IsValid() {
		return nil
	}
	var out []nftables.SetElement
	for a := p.Masked().Addr(); p.Contains(a) && len(out) < maxHairpin; a = a.Next() {
		out = append(out, nftables.SetElement{Key: AppendAddr(AppendAddr(nil, a), a)})
	}
	return out
}

// Guard are the rules that keep the node's own daemons from answering on service addresses, which are local to the node: all
// but cluster DNS, and what is no connection (an ICMP error to a service address), is rejected.
func Guard(services netip.Prefix, dns netip.Addr) [][]expr.Any {
	var rules [][]expr.Any
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		if dns.IsValid() {
			rules = append(rules, Join(
				LoadDest(R0), Equal(R0, AppendAddr(nil, dns)),
				LoadProto(R0), Equal(R0, []byte{proto}),
				LoadPort(R0), Equal(R0, []byte{0, 53}),
				Verdict(expr.VerdictAccept)))
		}
	}
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		rules = append(rules, Join(
			LoadProto(R0), Equal(R0, []byte{proto}),
			LoadDest(R0), InPrefix(R0, services, true), Goto(ChainReject)))
	}
	return rules
}
