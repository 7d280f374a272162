package admission

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// onNodes is a service whose ports, as NUMBER[/PROTOCOL][=NODEPORT], are open on nodes.
func onNodes(name string, ports ...string) *corev1.Service {
	s := service("default", name, "")
	s.Spec.Type = corev1.ServiceTypeNodePort
	for _, text := range ports {
		p := corev1.ServicePort{Protocol: corev1.ProtocolTCP}
		text, node, has := strings.Cut(text, "=")
		if has {
			fmt.Sscan(node, &p.NodePort)
		}
		number, protocol, has := strings.Cut(text, "/")
		if has {
			p.Protocol = corev1.Protocol(protocol)
		}
		fmt.Sscan(number, &p.Port)
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
	return s
}

func nodePortsOf(s *corev1.Service) []int32 {
	var out []int32
	for _, p := range s.Spec.Ports {
		out = append(out, p.NodePort)
	}
	return out
}

func TestAllocateNodePorts(t *testing.T) {
	r := Ranges{Services: netip.MustParsePrefix("10.96.0.0/16")}
	var v view
	add := func(s *corev1.Service) []int32 {
		t.Helper()
		if err := Allocate(v, s, nil, r); err != nil {
			t.Fatal(err)
		}
		v = append(v, s)
		return nodePortsOf(s)
	}
	seen := map[int32]bool{}
	for i := range 200 {
		got := add(onNodes(fmt.Sprint("s", i), "80", "443"))
		for _, n := range got {
			if n < 30000 || n > 32767 || seen[n] {
				t.Fatalf("service %d has %v", i, got)
			}
			seen[n] = true
		}
	}
	again := onNodes("s7", "80", "443")
	if err := Allocate(v[:7], again, nil, r); err != nil || fmt.Sprint(nodePortsOf(again)) != fmt.Sprint(nodePortsOf(v[7].(*corev1.Service))) {
		t.Errorf("the same state gave %v and %v (%v)", nodePortsOf(again), nodePortsOf(v[7].(*corev1.Service)), err)
	}
	free := int32(30000)
	for seen[free] {
		free++
	}
	if got := add(onNodes("asked", fmt.Sprint("80=", free), "81")); got[0] != free || got[1] == 0 || got[1] == free {
		t.Errorf("a port that was asked for: %v", got)
	}
	if got := add(onNodes("dns", "53/UDP", "53/TCP", "54/TCP")); got[0] != got[1] || got[2] == got[0] {
		t.Errorf("two protocols of a port: %v", got)
	}
	if got := add(onNodes("twice", "80", "80/SCTP=32001")); got[0] != 32001 {
		t.Errorf("two protocols, one of them asked for: %v", got)
	}
	for name, tc := range map[string]struct{ port, want string }{
		"taken":    {fmt.Sprint("80=", free), "spec.ports[0].nodePort: Invalid value: " + fmt.Sprint(free) + ": provided port is already allocated"},
		"too low":  {"80=29999", "provided port is not in the valid range. The range of valid ports is 30000-32767"},
		"too high": {"80=32768", "is not in the valid range"},
	} {
		if err := Allocate(v, onNodes("late", tc.port), nil, r); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	inside := onNodes("inside", "80")
	inside.Spec.Type = corev1.ServiceTypeClusterIP
	none := onNodes("none", "80")
	none.Spec.Type, none.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, new(bool)
	balanced := onNodes("balanced", "80")
	balanced.Spec.Type = corev1.ServiceTypeLoadBalancer
	if a, b, c := add(inside)[0], add(none)[0], add(balanced)[0]; a != 0 || b != 0 || c == 0 {
		t.Errorf("inside %d, a load balancer without %d, a load balancer %d", a, b, c)
	}
}

// TestKeepNodePorts updates a service whose new form does not name what was given to it.
func TestKeepNodePorts(t *testing.T) {
	old := onNodes("s", "80=30080", "443=30443")
	for name, tc := range map[string]struct {
		to   *corev1.Service
		want string
	}{
		"left out":            {onNodes("s", "443", "80"), "[30443 30080]"},
		"one asked for":       {onNodes("s", "80=30081", "443"), "[30081 30443]"},
		"swapped":             {onNodes("s", "80", "443=30080"), "[0 30080]"},
		"a port more":         {onNodes("s", "80", "81"), "[30080 0]"},
		"another protocol":    {onNodes("s", "80/UDP"), "[0]"},
		"no longer on nodes":  {onNodes("s", "80=30080", "443"), "[0 0]"},
		"not on nodes, wrong": {onNodes("s", "80=30099"), "[30099]"},
	} {
		if strings.HasPrefix(name, "no") {
			tc.to.Spec.Type = corev1.ServiceTypeClusterIP
		}
		was := object.Copy(old)
		PrepareUpdate(tc.to, old)
		if got := fmt.Sprint(nodePortsOf(tc.to)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
		if fmt.Sprint(nodePortsOf(old)) != fmt.Sprint(nodePortsOf(was)) {
			t.Errorf("%s: the stored service was changed", name)
		}
	}
}
