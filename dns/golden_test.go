package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// fakeUpstream knows one name outside.
type fakeUpstream struct{}

func (fakeUpstream) forward(_ context.Context, q *dns.Msg, _ bool) (*dns.Msg, error) {
	switch q.Question[0].Name {
	case "example.org.":
		m := new(dns.Msg).SetReply(q)
		rr, err := dns.NewRR("example.org. 300 IN A 192.0.2.1")
		m.Answer = []dns.RR{rr}
		return m, err
	case "down.example.":
		return nil, errors.New("no answer")
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeNameError), nil
}

func testServer() *server {
	s := newServer(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")}})
	s.handler.upstream = fakeUpstream{}
	return s
}

// TestGolden plays transcripts: `service` and `slice` add objects, `remove` removes them, `synced` says that all has been seen, and
// `dig NAME TYPE [udp=SIZE] [tcp]` prints the answer with its records in order.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		s := testServer()
		services, slicesOf := receiver{s.follower, resourceServices}, receiver{s.follower, resourceSlices}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "synced":
				services.Replace(nil)
				slicesOf.Replace(nil)
			case "service":
				services.Upsert(parseService(t, d))
			case "slice":
				slicesOf.Upsert(parseSlice(t, d))
			case "remove":
				ns, name, _ := strings.Cut(d.CmdArgs[1].Key, "/")
				r := services
				if d.CmdArgs[0].Key == resourceSlices {
					r = slicesOf
				}
				r.Remove(object.Key{Resource: d.CmdArgs[0].Key, Namespace: ns, Name: name})
			case "dig":
				return dig(t, s, d)
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return ""
		})
	})
}

func dig(t *testing.T, s *server, d *datadriven.TestData) string {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(d.CmdArgs[0].Key), dns.StringToType[d.CmdArgs[1].Key])
	tcp := false
	for _, a := range d.CmdArgs[2:] {
		switch a.Key {
		case "tcp":
			tcp = true
		case "udp":
			n, _ := strconv.Atoi(a.SingleVal(t))
			q.SetEdns0(uint16(n), false)
		}
	}
	m := s.handler.answer(t.Context(), q, tcp)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s", dns.RcodeToString[m.Rcode])
	if m.Authoritative {
		out.WriteString(" aa")
	}
	if m.Truncated {
		out.WriteString(" tc")
	}
	out.WriteByte('\n')
	if m.Truncated {
		return out.String()
	}
	for _, section := range []struct {
		name string
		rrs  []dns.RR
	}{{"", m.Answer}, {"authority ", m.Ns}, {"additional ", m.Extra}} {
		var lines []string
		for _, rr := range section.rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				lines = append(lines, section.name+strings.ReplaceAll(rr.String(), "\t", " ")+"\n")
			}
		}
		slices.Sort(lines)
		out.WriteString(strings.Join(lines, ""))
	}
	return out.String()
}

func meta(id string) metav1.ObjectMeta {
	ns, name, _ := strings.Cut(id, "/")
	return metav1.ObjectMeta{Namespace: ns, Name: name}
}

func parseService(t *testing.T, d *datadriven.TestData) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(d.CmdArgs[0].Key)}
	for _, a := range d.CmdArgs[1:] {
		v := a.SingleVal(t)
		switch a.Key {
		case "ip":
			s.Spec.ClusterIP = v
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, v)
		case "port":
			name, number, _ := strings.Cut(v, ":")
			n, _ := strconv.Atoi(number)
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(n), Protocol: corev1.ProtocolTCP})
		case "external-name":
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, v
		}
	}
	return s
}

// parseSlice reads one endpoint a line: ADDRESS [hostname=NAME] [down].
func parseSlice(t *testing.T, d *datadriven.TestData) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta(d.CmdArgs[0].Key), AddressType: discoveryv1.AddressTypeIPv4}
	for _, a := range d.CmdArgs[1:] {
		v := a.SingleVal(t)
		switch a.Key {
		case "of":
			s.Labels = map[string]string{discoveryv1.LabelServiceName: v}
		case "port":
			name, number, _ := strings.Cut(v, ":")
			n, _ := strconv.Atoi(number)
			p := int32(n)
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &p})
		case "many":
			n, _ := strconv.Atoi(v)
			for i := range n {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 244, 9, byte(i)}).String()}})
			}
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		e := discoveryv1.Endpoint{Addresses: f[:1]}
		for _, w := range f[1:] {
			if h, ok := strings.CutPrefix(w, "hostname="); ok {
				e.Hostname = &h
			}
			if no := false; w == "down" {
				e.Conditions.Ready = &no
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}
