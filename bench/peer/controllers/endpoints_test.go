package controllers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/controller/endpoint"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/endpointslicemirroring"

	"reconcile/controller"
	"reconcile/object"
)

// newEndpointPeer is Kubernetes' controllers of Endpoints, of EndpointSlices and of their mirroring.
func newEndpointPeer(t *testing.T) *peer {
	p := &peer{t: t, client: fake.NewSimpleClientset()}
	p.client.PrependReactor("*", "*", p.react)
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx, core, found := t.Context(), f.Core().V1(), f.Discovery().V1()
	s := endpointslice.NewController(ctx, core.Pods(), core.Services(), core.Nodes(), found.EndpointSlices(), 100, p.client, 0)
	e := endpoint.NewEndpointController(ctx, core.Pods(), core.Services(), core.Endpoints(), p.client, 0)
	m := endpointslicemirroring.NewController(ctx, core.Endpoints(), found.EndpointSlices(), core.Services(), 1000, p.client, 0)
	p.run(f, func() { s.Run(ctx, 1) }, func() { e.Run(ctx, 1) }, func() { m.Run(ctx, 1) })
	return p
}

// endpointsOf are the endpoints of all services that a side shows, each on a line, by whoever keeps them, and their addresses of old.
func endpointsOf(s side) []string {
	var out []string
	for _, o := range s.list("endpointslices") {
		sl := o.(*discoveryv1.EndpointSlice)
		service := sl.Labels[discoveryv1.LabelServiceName]
		if service == "kubernetes" {
			continue
		}
		head := fmt.Sprintf("%s of %s %s", sl.Labels[discoveryv1.LabelManagedBy], service, sl.AddressType)
		var ports []string
		for _, p := range sl.Ports {
			ports = append(ports, fmt.Sprintf("%s=%d/%s", *p.Name, *p.Port, *p.Protocol))
		}
		slices.Sort(ports)
		if len(sl.Endpoints) == 0 {
			out = append(out, head+" none")
		}
		for _, e := range sl.Endpoints {
			hints := ""
			if e.Hints != nil {
				hints = fmt.Sprint(e.Hints.ForZones, e.Hints.ForNodes)
			}
			target := ""
			if e.TargetRef != nil {
				target = e.TargetRef.Name
			}
			out = append(out, fmt.Sprintf("%s %v ready=%s serving=%s terminating=%s node=%s zone=%s host=%s hints=%s target=%s ports=%v", head, e.Addresses,
				said(e.Conditions.Ready), said(e.Conditions.Serving), said(e.Conditions.Terminating), said(e.NodeName), said(e.Zone), said(e.Hostname), hints, target, ports))
		}
	}
	for _, o := range s.list("endpoints") {
		if o.GetName() == "kubernetes" {
			continue
		}
		for _, sub := range o.(*corev1.Endpoints).Subsets {
			for ready, list := range map[bool][]corev1.EndpointAddress{true: sub.Addresses, false: sub.NotReadyAddresses} {
				for _, a := range list {
					for _, p := range sub.Ports { // a subset is every address with every port: how they are put together says nothing
						out = append(out, fmt.Sprintf("endpoints %s %s ready=%v node=%s host=%s port %s=%d/%s", o.GetName(), a.IP, ready, said(a.NodeName), a.Hostname, p.Name, p.Port, p.Protocol))
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func said[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

// TestEndpoints compares slices, Endpoints and mirrored slices: services of all forms come, change and go, pods come, get addresses, become ready or not, end
// and go, zones change, and a user keeps Endpoints by hand.
func TestEndpoints(t *testing.T) {
	for seed := range courses(t) {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newOurs(t)
				m := &match{t: t, rng: drawn(seed, 3), a: newEndpointPeer(t), b: w}
				for _, name := range []string{"n1", "n2"} {
					w.host(name)
					n := &corev1.Node{}
					n.Name = name
					m.a.make(n)
					// Kubernetes looks at a node's zone when it looks at a service, and not because the zone changes.
					if zone := pick(m, "x", "y", ""); zone != "" {
						m.edit("nodes", name, func(o object.Object) { o.SetLabels(map[string]string{corev1.LabelTopologyZone: zone}) })
					}
				}
				for range 60 {
					m.network()
					m.a.settle(time.Now())
					m.b.settle(time.Now())
					time.Sleep(2 * time.Second)
					m.a.settle(time.Now())
					m.b.settle(time.Now())
					want, got := strings.Join(endpointsOf(m.a), "\n"), strings.Join(endpointsOf(m.b), "\n")
					if want != got {
						t.Fatalf("after\n  %s\nKubernetes shows\n%s\nwe show\n%s", strings.Join(m.log, "\n  "), indent(want), indent(got))
					}
				}
			})
		})
	}
}

// podAny picks a pod that both sides have.
func (m *match) podAny() string {
	list := m.b.list("pods")
	if len(list) == 0 {
		return ""
	}
	return list[m.rng.IntN(len(list))].GetName()
}

// status changes a pod of a name on both sides, as its kubelet would.
func (m *match) status(pod string, change func(*corev1.Pod)) {
	for _, s := range []side{m.a, m.b} {
		for _, o := range s.list("pods") {
			if o.GetName() == pod {
				c := object.Copy(o).(*corev1.Pod)
				change(c)
				s.change(c, "status")
			}
		}
	}
}

func (m *match) drop(resource, name string, grace *int64) {
	for _, s := range []side{m.a, m.b} {
		for _, o := range s.list(resource) {
			if o.GetName() == name {
				s.delete(o, controller.DeleteOptions{GracePeriodSeconds: grace})
			}
		}
	}
}

func (m *match) has(resource, name string) bool {
	return slices.ContainsFunc(m.b.list(resource), func(o object.Object) bool { return o.GetName() == name })
}

// network makes one step of what endpoints follow from.
func (m *match) network() {
	service := func(change func(*corev1.Service)) {
		m.edit("services", "web", func(o object.Object) { change(o.(*corev1.Service)) })
	}
	pod := m.podAny()
	switch n := m.rng.IntN(21); {
	case !m.has("services", "web"):
		svc := &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: pick(m, "None", "10.96.0.9"), IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			PublishNotReadyAddresses: m.flip(4), Ports: []corev1.ServicePort{{Name: "a", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: m.target()}}}}
		svc.Name, svc.Spec.ClusterIPs = "web", []string{svc.Spec.ClusterIP}
		m.say("service %+v", svc.Spec)
		m.make(svc)
	case n < 6 || pod == "":
		m.pod()
	case n < 10:
		yes := m.flip(2)
		m.say("%s ready %v", pod, yes)
		m.status(pod, func(p *corev1.Pod) { setReady(p, yes) })
	case n == 10:
		m.say("%s terminates", pod)
		m.drop("pods", pod, ref(int64(30)))
	case n == 11:
		m.say("%s is gone", pod)
		m.drop("pods", pod, ref(int64(0)))
	case n == 12:
		phase := pick(m, corev1.PodSucceeded, corev1.PodFailed)
		m.say("%s %s", pod, phase)
		m.status(pod, func(p *corev1.Pod) { p.Status.Phase = phase })
		// Kubernetes hears of it by the pod's readiness, and misses it where that does not change.
		m.a.settle(time.Now())
		m.edits(m.a, "services", "web", func(o object.Object) { o.SetAnnotations(map[string]string{"looked": pod}) })
	case n == 13:
		app := pick(m, "web", "other")
		m.say("%s is of %s", pod, app)
		m.edit("pods", pod, func(o object.Object) { o.SetLabels(map[string]string{"app": app}) })
	case n == 14:
		app := pick(m, "web", "other")
		m.say("the service selects %s", app)
		service(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} })
	case n == 15:
		to, two := m.target(), m.flip(2)
		m.say("the service's port goes to %s, two %v", to.String(), two)
		service(func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: to}}
			if two {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "b", Port: 90, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(90)})
			}
		})
	case n == 16:
		yes := m.flip(2)
		m.say("addresses that are not ready are published: %v", yes)
		service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = yes })
	case n == 17:
		to := pick(m, nil, ref(corev1.ServiceTrafficDistributionPreferClose), ref(corev1.ServiceTrafficDistributionPreferSameNode))
		m.say("traffic goes %s", said(to))
		service(func(s *corev1.Service) { s.Spec.TrafficDistribution = to })
	case n == 18:
		m.say("the service goes")
		m.drop("services", "web", nil)
	default:
		m.byHand()
	}
}

func (m *match) target() intstr.IntOrString {
	return pick(m, intstr.FromInt32(80), intstr.FromInt32(8080), intstr.FromString("http"), intstr.FromString("nothing"))
}

// pod makes a pod on a node, with or without an address.
func (m *match) pod() {
	p := &corev1.Pod{Spec: template(nil, "v1", corev1.RestartPolicyAlways).Spec}
	n := len(m.log)
	p.Name, p.Labels, p.Spec.NodeName = fmt.Sprintf("p%02d", n), map[string]string{"app": pick(m, "web", "web", "other")}, pick(m, "n1", "n2")
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: pick(m, int32(8080), 8080, 8081), Protocol: corev1.ProtocolTCP}}
	if m.flip(3) {
		p.Spec.Hostname, p.Spec.Subdomain = "h"+strconv.Itoa(n), "web"
	}
	ip, yes := fmt.Sprintf("10.244.0.%d", n+1), m.flip(2)
	if m.flip(6) {
		ip = ""
	}
	m.say("pod %s %v on %s at %s, ready %v", p.Name, p.Labels, p.Spec.NodeName, ip, yes)
	m.make(p)
	m.status(p.Name, func(p *corev1.Pod) {
		p.Status.Phase, p.Status.PodIP, p.Status.StartTime = corev1.PodRunning, ip, ref(metav1.Now())
		if ip != "" {
			p.Status.PodIPs = []corev1.PodIP{{IP: ip}}
		}
		setReady(p, yes)
	})
}

// byHand changes the Endpoints that a user keeps for a service without a selector.
func (m *match) byHand() {
	switch {
	case !m.has("services", "outside"):
		svc := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
		svc.Name = "outside"
		m.say("service outside")
		m.make(svc)
	case !m.has("endpoints", "outside"):
		ep := &corev1.Endpoints{Subsets: m.subsets()}
		ep.Name = "outside"
		m.say("endpoints %v", ep.Subsets)
		m.make(ep)
	case m.flip(4):
		m.say("the endpoints go")
		m.drop("endpoints", "outside", nil)
	case m.flip(3):
		yes := m.flip(2)
		m.say("not mirrored: %v", yes)
		m.edit("endpoints", "outside", func(o object.Object) {
			o.SetLabels(map[string]string{discoveryv1.LabelSkipMirror: strconv.FormatBool(yes)})
		})
	default:
		to := m.subsets()
		m.say("endpoints become %v", to)
		m.edit("endpoints", "outside", func(o object.Object) { o.(*corev1.Endpoints).Subsets = to })
	}
}

func (m *match) subsets() (out []corev1.EndpointSubset) {
	for i := range m.rng.IntN(3) {
		s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "p", Port: int32(80 + i), Protocol: corev1.ProtocolTCP}}}
		for j := range 1 + m.rng.IntN(3) {
			a := corev1.EndpointAddress{IP: pick(m, "192.0.2.", "198.51.100.") + strconv.Itoa(10*i+j)}
			if m.flip(3) {
				s.NotReadyAddresses = append(s.NotReadyAddresses, a)
			} else {
				s.Addresses = append(s.Addresses, a)
			}
		}
		out = append(out, s)
	}
	return out
}
