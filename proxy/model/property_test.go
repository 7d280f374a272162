package model

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// drawState draws a state out of few addresses, so that two of them have much in common.
func drawState(t *rapid.T, label string) State {
	s := make(State)
	for i := range rapid.IntRange(0, 8).Draw(t, label) {
		f := Frontend{Addr: netip.AddrFrom4([4]byte{10, 96, 0, byte(rapid.IntRange(1, 4).Draw(t, "addr"))}), Proto: TCP, Port: uint16(rapid.IntRange(80, 81).Draw(t, "port"))}
		svc := Service{Frontend: f, Name: fmt.Sprint("default/s", i)}
		svc.Masquerade = Masquerade(rapid.IntRange(0, 2).Draw(t, "masquerade"))
		svc.Empty = Empty(rapid.IntRange(0, 1).Draw(t, "empty"))
		svc.Affinity = time.Duration(rapid.IntRange(0, 1).Draw(t, "affinity")) * time.Hour
		for _, b := range rapid.SliceOfN(rapid.IntRange(1, 6), 0, 6).Draw(t, "backends") {
			svc.Backends = append(svc.Backends, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(b)}), 8080))
		}
		slices.SortFunc(svc.Backends, Backend.Compare)
		svc.Backends = slices.Compact(svc.Backends)
		s[f] = svc
	}
	return s
}

// TestApplyDiff: from any state, the difference leads to any other, and then there is no difference.
func TestApplyDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, want := drawState(t, "have"), drawState(t, "want")
		d := Diff(have, want)
		for _, op := range d {
			if err := have.Apply(op); err != nil {
				t.Fatalf("%v in\n%s", err, d)
			}
		}
		if !have.Equal(want) {
			t.Fatalf("got\n%swant\n%s", Render(have), Render(want))
		}
		if rest := Diff(have, want); len(rest) > 0 {
			t.Fatalf("equal states differ by\n%s", rest)
		}
	})
}

// TestIndexAgreesWithItself: whatever comes in whatever order, the sum of the deltas is the state, and the state is that of a new
// index which is given the final objects at once.
func TestIndexAgreesWithItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := NewIndex("n1", netip.Addr{})
		x.SetNodeAddrs([]netip.Addr{netip.MustParseAddr("192.168.0.1")})
		kernel := make(State)
		services := map[string]*corev1.Service{}
		slicesOf := map[string]*discoveryv1.EndpointSlice{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := string(rune('a' + rapid.IntRange(0, 3).Draw(t, "name")))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				services[name] = drawService(t, name)
				x.UpsertService(services[name])
			case 2, 3:
				slicesOf[name] = drawSlice(t, name)
				x.UpsertSlice(slicesOf[name])
			case 4:
				if rapid.Bool().Draw(t, "service") {
					delete(services, name)
					x.RemoveService("default", name)
				} else {
					delete(slicesOf, name)
					x.RemoveSlice("default", name)
				}
			}
			if rapid.Bool().Draw(t, "advance") {
				advance(t, x, kernel)
			}
		}
		advance(t, x, kernel)
		fresh := NewIndex("n1", netip.Addr{})
		fresh.SetNodeAddrs([]netip.Addr{netip.MustParseAddr("192.168.0.1")})
		fresh.ReplaceSlices(values(slicesOf))
		fresh.ReplaceServices(values(services))
		fresh.Advance()
		if !fresh.State().Equal(x.State()) {
			t.Fatalf("step by step\n%sat once\n%s", Render(x.State()), Render(fresh.State()))
		}
		backends := 0
		for _, s := range x.State() {
			backends += len(s.Backends)
		}
		if backends != x.Backends() {
			t.Fatalf("%d backends counted as %d", backends, x.Backends())
		}
	})
}

func advance(t *rapid.T, x *Index, kernel State) {
	for _, op := range x.Advance() {
		if err := kernel.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	if !kernel.Equal(x.State()) {
		t.Fatalf("the deltas lead to\n%sthe state is\n%s", Render(kernel), Render(x.State()))
	}
}

// drawService draws a service that may claim an external address that others claim too.
func drawService(t *rapid.T, name string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", name[0])
	s.Spec.Ports = []corev1.ServicePort{{Port: int32(rapid.IntRange(80, 81).Draw(t, "port"))}}
	if rapid.Bool().Draw(t, "external") {
		s.Spec.ExternalIPs = []string{"203.0.113.5"}
	}
	if rapid.Bool().Draw(t, "node port") {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = int32(30000 + int(name[0]))
	}
	if rapid.Bool().Draw(t, "local") {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	return s
}

// drawSlice draws a slice that may move to another service.
func drawSlice(t *rapid.T, name string) *discoveryv1.EndpointSlice {
	owner := string(rune('a' + rapid.IntRange(0, 3).Draw(t, "owner")))
	port, empty := int32(8080), ""
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &empty, Port: &port}},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: owner}}}
	for _, b := range rapid.SliceOfN(rapid.IntRange(1, 5), 0, 4).Draw(t, "endpoints") {
		node, ready := fmt.Sprint("n", b%2), b != 3
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.0.%d", b)}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return s
}

// BenchmarkOneEndpoint is the hot path: one slice of one service among many changes.
func BenchmarkOneEndpoint(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n, "services"), func(b *testing.B) {
			x, slicesOf := bigIndex(n)
			x.Advance()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s := slicesOf[i%n].DeepCopy()
				s.Endpoints = s.Endpoints[:1+i%2]
				x.UpsertSlice(s)
				x.Advance()
				i++
			}
		})
	}
}

// BenchmarkFull computes everything and compares it with nothing.
func BenchmarkFull(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n, "services"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x, _ := bigIndex(n)
				x.Advance()
				if d := Diff(nil, x.State()); len(d) != n*3 {
					b.Fatal(len(d))
				}
			}
		})
	}
}

func bigIndex(n int) (*Index, []*discoveryv1.EndpointSlice) {
	x := NewIndex("n1", netip.Addr{})
	slicesOf := make([]*discoveryv1.EndpointSlice, 0, n)
	empty, port, node := "", int32(8080), "n1"
	for i := range n {
		meta := metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)}
		x.UpsertService(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String(), Ports: []corev1.ServicePort{{Port: 80}}}})
		meta.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
		s := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &empty, Port: &port}}}
		for j := range 2 {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: &node, Addresses: []string{netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}).String()}})
		}
		x.UpsertSlice(s)
		slicesOf = append(slicesOf, s)
	}
	return x, slicesOf
}
