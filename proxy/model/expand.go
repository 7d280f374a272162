package model

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelProxyName marks a Service that another proxy serves, and labelHeadless an object that says it is for none
// (well-known labels of the Service API).
const (
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless  = corev1.IsHeadlessService
)

// place is what expansion must know about the node: its name ("" when seen from nowhere: then all endpoints are local), the
// addresses that node ports are served on, and the address that the DNS server has.
type place struct {
	node  string
	addrs []netip.Addr
	dns   netip.Addr
}

// expand returns the services that a kernel has for one Service object: one a port and address. It is empty for headless
// services, for those of type ExternalName, and for those that another proxy serves. Only IPv4 is expanded.
func expand(svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice, at place) []Service {
	cluster := parse4(svc.Spec.ClusterIP)
	if !cluster.IsValid() || svc.Spec.Type == corev1.ServiceTypeExternalName || cluster == at.dns || isForeign(svc.Labels) {
		return nil
	}
	internalLocal := svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	externalLocal := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	external := externalAddrs(svc)

	var out []Service
	for _, port := range svc.Spec.Ports {
		proto, ok := protocolOf(port.Protocol)
		if !ok {
			continue
		}
		ends := endpoints(slicesOf, port.Name, proto, at.node)
		base := Service{Name: nameOf(svc, port), Attributes: Attributes{Affinity: affinityOf(svc)}}
		add := func(addr netip.Addr, number int32, local bool, masq Masquerade) {
			s := base
			s.Frontend = Frontend{Addr: addr, Proto: proto, Port: uint16(number)}
			s.Masquerade = masq
			s.Backends = ends.all
			if local {
				s.Backends = ends.local
				if len(ends.local) == 0 && len(ends.all) > 0 {
					s.Empty = Drop
				}
			}
			out = append(out, s)
		}
		masq := MasqueradeAlways
		if externalLocal {
			masq = MasqueradeNever
		}
		add(cluster, port.Port, internalLocal, MasqueradeOffCluster)
		for _, a := range external {
			add(a, port.Port, externalLocal, masq)
		}
		if port.NodePort == 0 {
			continue
		}
		for _, a := range at.addrs {
			add(a, port.NodePort, externalLocal, masq)
		}
	}
	return out
}

// externalAddrs are the externalIPs and the load balancer's addresses, each once and in order. A load balancer of mode Proxy
// wants its traffic to come through itself, so its address is left out.
func externalAddrs(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ip := range svc.Spec.ExternalIPs {
		out = append(out, parse4(ip))
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
				out = append(out, parse4(in.IP))
			}
		}
	}
	out = slices.DeleteFunc(out, func(a netip.Addr) bool { return !a.IsValid() })
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// ends are the endpoints of one port that take new connections.
type ends struct{ all, local []Backend }

// endpoints picks the endpoints of a port. An endpoint takes connections when it is ready; if none of a set is, those do that
// are terminating and still serve (KEP-1669). A set is that of the cluster or that of the node.
func endpoints(list []*discoveryv1.EndpointSlice, portName string, proto Protocol, node string) ends {
	var ready, leaving ends
	for _, slice := range list {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		port, ok := slicePort(slice, portName, proto)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			into := &ready
			switch {
			case isReady(e.Conditions):
			case isServingTerminating(e.Conditions):
				into = &leaving
			default:
				continue
			}
			// Addresses beyond the first are not to be used (the field's documentation).
			if len(e.Addresses) == 0 {
				continue
			}
			addr := parse4(e.Addresses[0])
			if !addr.IsValid() {
				continue
			}
			b := netip.AddrPortFrom(addr, port)
			into.all = append(into.all, b)
			if node == "" || (e.NodeName != nil && *e.NodeName == node) {
				into.local = append(into.local, b)
			}
		}
	}
	return ends{all: pick(ready.all, leaving.all), local: pick(ready.local, leaving.local)}
}

func pick(ready, leaving []Backend) []Backend {
	if len(ready) == 0 {
		ready = leaving
	}
	slices.SortFunc(ready, Backend.Compare)
	return slices.Compact(ready)
}

func slicePort(s *discoveryv1.EndpointSlice, name string, proto Protocol) (uint16, bool) {
	for _, p := range s.Ports {
		var have string
		if p.Name != nil {
			have = *p.Name
		}
		kind := corev1.ProtocolTCP
		if p.Protocol != nil {
			kind = *p.Protocol
		}
		if got, ok := protocolOf(kind); ok && got == proto && have == name && p.Port != nil && *p.Port > 0 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func isReady(c discoveryv1.EndpointConditions) bool { return c.Ready == nil || *c.Ready }

func isServingTerminating(c discoveryv1.EndpointConditions) bool {
	serving := isReady(c)
	if c.Serving != nil {
		serving = *c.Serving
	}
	return serving && c.Terminating != nil && *c.Terminating
}

func isForeign(l map[string]string) bool {
	_, other := l[labelProxyName]
	_, headless := l[labelHeadless]
	return other || headless
}

func affinityOf(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func protocolOf(p corev1.Protocol) (Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return TCP, true
	case corev1.ProtocolUDP:
		return UDP, true
	case corev1.ProtocolSCTP:
		return SCTP, true
	}
	return 0, false
}

func nameOf(o metav1.Object, port corev1.ServicePort) string {
	name := o.GetNamespace() + "/" + o.GetName()
	if port.Name != "" {
		name += ":" + port.Name
	}
	return name
}

// parse4 returns an IPv4 address, or the zero Addr for anything else ("None", "", IPv6).
func parse4(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}
	}
	return a
}
