package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Rule is one service port as a plan shows it, seen from no node in particular.
type Rule struct {
	// Namespace and Service name the Service object, Port its port ("" where it has no name).
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      string `json:"port,omitempty"`
	// Frontend is "10.96.4.7:80/TCP", or "node:30080/TCP" for a port on every node.
	Frontend string `json:"frontend"`
	// Backends are the endpoints that take new connections, each "10.244.0.3:8080", in order.
	Backends []string `json:"backends,omitempty"`
	// Notes are what is not usual about the rule ("affinity 3h0m0s", "local endpoints only").
	Notes []string `json:"notes,omitempty"`
}

// String is the rule as one line: "10.96.4.7:80/TCP default/web:http → 10.244.0.3:8080, 10.244.0.4:8080".
func (r Rule) String() string {
	to := "no endpoints"
	if len(r.Backends) > 0 {
		to = strings.Join(r.Backends, ", ")
	}
	name := r.Namespace + "/" + r.Service
	if r.Port != "" {
		name += ":" + r.Port
	}
	line := fmt.Sprintf("%s %s → %s", r.Frontend, name, to)
	if len(r.Notes) > 0 {
		line += " (" + strings.Join(r.Notes, "; ") + ")"
	}
	return line
}

// anyNode stands for "each node's address" while rules are made; it is never a real address of a node.
var anyNode = netip.AddrFrom4([4]byte{0, 0, 0, 0})

// Rules returns what the services do, ordered by namespace, service, frontend. It changes none of its arguments; slices may
// hold slices of other services.
func Rules(services []*corev1.Service, slicesOf []*discoveryv1.EndpointSlice) []Rule {
	by := make(map[serviceKey][]*discoveryv1.EndpointSlice)
	for _, s := range slicesOf {
		k := ownerOf(s)
		by[k] = append(by[k], s)
	}
	var out []Rule
	for _, svc := range services {
		for _, s := range expand(svc, by[serviceKey{svc.Namespace, svc.Name}], place{addrs: []netip.Addr{anyNode}}) {
			out = append(out, ruleOf(svc, s))
		}
	}
	slices.SortFunc(out, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Frontend, b.Frontend))
	})
	return out
}

func ruleOf(svc *corev1.Service, s Service) Rule {
	r := Rule{Namespace: svc.Namespace, Service: svc.Name, Frontend: s.Frontend.String()}
	_, r.Port, _ = strings.Cut(s.Name, ":")
	nodePort := s.Frontend.Addr == anyNode
	if nodePort {
		r.Frontend = fmt.Sprintf("node:%d/%s", s.Frontend.Port, s.Frontend.Proto)
	}
	for _, b := range s.Backends {
		r.Backends = append(r.Backends, b.String())
	}
	if s.Affinity > 0 {
		r.Notes = append(r.Notes, "affinity "+s.Affinity.String())
	}
	local := s.Masquerade == MasqueradeNever
	if s.Masquerade == MasqueradeOffCluster {
		local = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	}
	if local {
		r.Notes = append(r.Notes, "local endpoints only")
	}
	return r
}
