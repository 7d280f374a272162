package model

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestGolden plays transcripts. Each begins with an empty index of node n1 (192.168.77.1, DNS 10.96.0.10). The commands:
//
//	service ns/name ip=.. port=NAME:80/TCP [port=..] [nodeport=..] [external=..] [affinity=60] [internal=Local] [external-policy=Local]
//	slice ns/name of=SERVICE port=NAME:8080/TCP          one endpoint a line: ADDRESS NODE [ready|serving|down]
//	remove service|slice ns/name
//	state, rules
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		x := NewIndex("n1", netip.MustParseAddr("10.96.0.10"))
		x.SetNodeAddrs([]netip.Addr{netip.MustParseAddr("192.168.77.1")})
		services := map[string]*corev1.Service{}
		slicesOf := map[string]*discoveryv1.EndpointSlice{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var name string
			if len(d.CmdArgs) > 0 {
				name = d.CmdArgs[0].Key
			}
			switch d.Cmd {
			case "service":
				services[name] = parseService(t, d)
				x.UpsertService(services[name])
			case "slice":
				slicesOf[name] = parseSlice(t, d)
				x.UpsertSlice(slicesOf[name])
			case "remove":
				ns, n, _ := strings.Cut(d.CmdArgs[1].Key, "/")
				if name == "service" {
					delete(services, d.CmdArgs[1].Key)
					x.RemoveService(ns, n)
				} else {
					delete(slicesOf, d.CmdArgs[1].Key)
					x.RemoveSlice(ns, n)
				}
			case "state":
				return Render(x.State())
			case "rules":
				var b strings.Builder
				for _, r := range Rules(values(services), values(slicesOf)) {
					b.WriteString(r.String() + "\n")
				}
				return b.String()
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return x.Advance().String()
		})
	})
}

func values[T any](m map[string]T) []T {
	var out []T
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func meta(id string) metav1.ObjectMeta {
	ns, name, _ := strings.Cut(id, "/")
	return metav1.ObjectMeta{Namespace: ns, Name: name}
}

// portOf reads NAME:NUMBER/PROTOCOL; the name may be missing.
func portOf(t *testing.T, s string) (string, int32, corev1.Protocol) {
	name, rest, ok := strings.Cut(s, ":")
	if !ok {
		name, rest = "", s
	}
	number, proto, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("port %q: %v", s, err)
	}
	return name, int32(n), corev1.Protocol(proto)
}

func parseService(t *testing.T, d *datadriven.TestData) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(d.CmdArgs[0].Key), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	for _, a := range d.CmdArgs[1:] {
		v := a.SingleVal(t)
		switch a.Key {
		case "ip":
			s.Spec.ClusterIP = v
		case "port":
			name, n, p := portOf(t, v)
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: n, Protocol: p})
		case "nodeport":
			n, _ := strconv.Atoi(v)
			s.Spec.Type = corev1.ServiceTypeNodePort
			s.Spec.Ports[len(s.Spec.Ports)-1].NodePort = int32(n)
		case "external":
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, v)
		case "loadbalancer":
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: v})
		case "affinity":
			n, _ := strconv.Atoi(v)
			seconds := int32(n)
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		case "internal":
			p := corev1.ServiceInternalTrafficPolicy(v)
			s.Spec.InternalTrafficPolicy = &p
		case "external-policy":
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(v)
		case "label":
			s.Labels = map[string]string{v: "x"}
		case "type":
			s.Spec.Type = corev1.ServiceType(v)
		default:
			t.Fatalf("unknown argument %s", a.Key)
		}
	}
	return s
}

func parseSlice(t *testing.T, d *datadriven.TestData) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(d.CmdArgs[0].Key), AddressType: discoveryv1.AddressTypeIPv4}
	for _, a := range d.CmdArgs[1:] {
		v := a.SingleVal(t)
		switch a.Key {
		case "of":
			s.Labels = map[string]string{discoveryv1.LabelServiceName: v}
		case "port":
			name, n, p := portOf(t, v)
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &n, Protocol: &p})
		}
	}
	yes, no := true, false
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		e := discoveryv1.Endpoint{Addresses: []string{f[0]}, NodeName: &f[1]}
		switch f[2] {
		case "ready":
			e.Conditions.Ready = &yes
		case "serving":
			e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
		case "down":
			e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}
