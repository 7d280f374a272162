package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// service is all names below one Service, as the Kubernetes DNS specification 1.1 has them. It is immutable, and is what the
// state file keeps.
type service struct {
	// Target is the name that a Service of type ExternalName stands for.
	Target string `json:"target,omitempty"`
	// Addrs are the addresses of the service's own name: its ClusterIPs, or those of its endpoints when it is headless.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Hosts are the addresses of HOST.SERVICE for each endpoint of a headless service.
	Hosts map[string][]netip.Addr `json:"hosts,omitempty"`
	// Ports are what SRV answers for "_port._proto".
	Ports map[string][]port `json:"ports,omitempty"`
	// Headless tells that reverse names are those of Hosts.
	Headless bool `json:"headless,omitempty"`
}

// port is one SRV record: a host below the service ("" for the service itself) and its port.
type port struct {
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port"`
}

// newService works out the names of one Service; list are its slices. It changes neither.
func newService(svc *corev1.Service, list []*discoveryv1.EndpointSlice) *service {
	s := &service{}
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		// An address is no name, though some write one there.
		if _, err := netip.ParseAddr(svc.Spec.ExternalName); err == nil || svc.Spec.ExternalName == "" {
			return s
		}
		s.Target = strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, ".")) + "."
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		s.headless(list)
	default:
		s.cluster(svc)
	}
	return s
}

// cluster fills in a service with ClusterIPs.
func (s *service) cluster(svc *corev1.Service) {
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil {
			s.Addrs = append(s.Addrs, a)
		}
	}
	for _, p := range svc.Spec.Ports {
		if p.Name != "" {
			s.addPort(p.Name, string(p.Protocol), port{Port: uint16(p.Port)})
		}
	}
}

// headless fills in a service without ClusterIP: the names of its ready endpoints.
func (s *service) headless(list []*discoveryv1.EndpointSlice) {
	s.Headless = true
	s.Hosts = make(map[string][]netip.Addr)
	for _, slice := range list {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			s.endpoint(slice, e)
		}
	}
	s.Addrs = tidy(s.Addrs, netip.Addr.Compare)
	for host, addrs := range s.Hosts {
		s.Hosts[host] = tidy(addrs, netip.Addr.Compare)
	}
	for name, ports := range s.Ports {
		s.Ports[name] = tidy(ports, func(a, b port) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port)) })
	}
}

func (s *service) endpoint(slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) {
	for _, text := range e.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		host := dashed(a)
		if e.Hostname != nil && *e.Hostname != "" {
			host = strings.ToLower(*e.Hostname)
		}
		s.Addrs = append(s.Addrs, a)
		s.Hosts[host] = append(s.Hosts[host], a)
		for _, p := range slice.Ports {
			if p.Name != nil && *p.Name != "" && p.Port != nil {
				proto := corev1.ProtocolTCP
				if p.Protocol != nil {
					proto = *p.Protocol
				}
				s.addPort(*p.Name, string(proto), port{Host: host, Port: uint16(*p.Port)})
			}
		}
	}
}

func (s *service) addPort(name, proto string, p port) {
	if proto == "" {
		proto = string(corev1.ProtocolTCP)
	}
	if s.Ports == nil {
		s.Ports = make(map[string][]port)
	}
	key := "_" + strings.ToLower(name) + "._" + strings.ToLower(proto)
	s.Ports[key] = append(s.Ports[key], p)
}

// exists tells whether a name below the service exists, without having records of its own: "_tcp" exists while "_http._tcp" does.
func (s *service) exists(below string) bool {
	for name := range s.Ports {
		if strings.HasSuffix(name, "."+below) {
			return true
		}
	}
	return false
}

// dashed is the name of an endpoint without a hostname: 10.244.0.3 is 10-244-0-3.
func dashed(a netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

// undashed is the inverse of dashed for IPv4, and for IPv6 as far as it goes.
func undashed(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.ReplaceAll(s, "-", "."))
	if err != nil {
		a, err = netip.ParseAddr(strings.ReplaceAll(s, "-", ":"))
	}
	return a, err == nil
}

func tidy[T comparable](list []T, order func(a, b T) int) []T {
	slices.SortFunc(list, order)
	return slices.Compact(list)
}
