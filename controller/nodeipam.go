package controller

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// nodeIPAM gives each node a /24 of the cluster's pod range: the lowest that no node has. A node keeps it for life.
type nodeIPAM struct{ pods netip.Prefix }

func (nodeIPAM) Name() string      { return "node-ipam" }
func (nodeIPAM) Watches() []string { return []string{"nodes"} }

func (nodeIPAM) Keys(v View, ch Change, emit func(object.Key)) {
	if n, ok := ch.New.(*corev1.Node); ok && n.Spec.PodCIDR == "" {
		emit(ch.Key)
		return
	}
	if ch.New == nil {
		// A freed network may be what a waiting node needs.
		for o := range v.List("nodes", "") {
			if o.(*corev1.Node).Spec.PodCIDR == "" {
				emit(object.KeyOf(o))
			}
		}
	}
}

func (c nodeIPAM) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.(*corev1.Node).Spec.PodCIDR != "" {
		return Result{}, nil
	}
	taken := map[netip.Prefix]bool{}
	for other := range v.List("nodes", "") {
		if p, err := netip.ParsePrefix(other.(*corev1.Node).Spec.PodCIDR); err == nil {
			taken[p] = true
		}
	}
	for i := range 1 << (24 - c.pods.Bits()) {
		a := c.pods.Masked().Addr().As4()
		a[0], a[1], a[2] = a[0]+byte(i>>16), a[1]+byte(i>>8), a[2]+byte(i)
		free := netip.PrefixFrom(netip.AddrFrom4(a), 24)
		if taken[free] {
			continue
		}
		p := free.String()
		node := object.Copy(o).(*corev1.Node)
		node.Spec.PodCIDR, node.Spec.PodCIDRs = p, []string{p}
		return Result{Put: []object.Object{node}}, nil
	}
	return Result{Events: []Event{{Regarding: o, Type: corev1.EventTypeWarning, Reason: "CIDRNotAvailable", Component: "cidrAllocator",
		Message: fmt.Sprintf("Node %s status is now: CIDRNotAvailable (all /24 networks of %s are taken)", key.Name, c.pods)}}}, nil
}
