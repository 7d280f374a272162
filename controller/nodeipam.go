package controller

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// nodeIPAM gives each node a /24 of the cluster's pod range: the lowest that no node has. A node keeps it for life. Its one key stands for all
// nodes: many that come at once cost one look, and none is made if no node waits.
type nodeIPAM struct{ pods netip.Prefix }

func (nodeIPAM) Name() string      { return "node-ipam" }
func (nodeIPAM) Watches() []string { return []string{"nodes"} }

func (nodeIPAM) Keys(_ View, ch Change, emit func(object.Key)) {
	// A freed network may be what a waiting node needs.
	if n, ok := ch.New.(*corev1.Node); !ok || n.Spec.PodCIDR == "" {
		emit(nodesKey)
	}
}

func (c nodeIPAM) Reconcile(v View, _ object.Key, _ time.Time) (Result, error) {
	if !anyOf(v, object.NodesWithoutNetwork) {
		return Result{}, nil
	}
	taken := map[netip.Prefix]bool{}
	var waiting []*corev1.Node
	for o := range v.List("nodes", "") {
		n := o.(*corev1.Node)
		if n.Spec.PodCIDR == "" {
			waiting = append(waiting, n)
		} else if p, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil {
			taken[p] = true
		}
	}
	var res Result
	next := 0
	for _, n := range waiting {
		for next < c.networks() && taken[c.network(next)] {
			next++
		}
		if next == c.networks() {
			res.Events = append(res.Events, Event{Regarding: n, Type: corev1.EventTypeWarning, Reason: "CIDRNotAvailable", Component: "cidrAllocator",
				Message: fmt.Sprintf("Node %s status is now: CIDRNotAvailable (all /24 networks of %s are taken)", n.Name, c.pods)})
			continue
		}
		node, p := object.Copy(n), c.network(next).String()
		node.Spec.PodCIDR, node.Spec.PodCIDRs = p, []string{p}
		res.Put = append(res.Put, node)
		next++
	}
	return res, nil
}

// networks is how many /24 the range has, network one of them.
func (c nodeIPAM) networks() int { return 1 << (24 - c.pods.Bits()) }

func (c nodeIPAM) network(i int) netip.Prefix {
	a := c.pods.Masked().Addr().As4()
	a[0], a[1], a[2] = a[0]+byte(i>>16), a[1]+byte(i>>8), a[2]+byte(i)
	return netip.PrefixFrom(netip.AddrFrom4(a), 24)
}
