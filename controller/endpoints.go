package controller

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

const (
	sliceManager     = "endpointslice-controller.k8s.io"
	endpointsManager = "endpoint-controller"
	labelEndpointsBy = "endpoints.kubernetes.io/managed-by"
	// maxPerSlice and maxAddresses are Kubernetes' bounds for an EndpointSlice and an Endpoints object.
	maxPerSlice  = 100
	maxAddresses = 1000
)

// endpoints keeps, for each service with a selector, its EndpointSlices and the Endpoints object of old. Its input are services
// and pods; a pod counts once it has an address. endpointslice.go packs the slices and the old form, endpointpod.go changes one pod in them.
type endpoints struct{}

func (endpoints) Name() string { return "endpoints" }

func (endpoints) final(resource string) bool {
	return resource == "endpointslices" || resource == "endpoints"
}

func (endpoints) Watches() []string {
	return []string{"services", "pods", "nodes", "endpointslices", "endpoints"}
}

func (endpoints) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "services":
		emit(ch.Key)
		return
	case "endpoints":
		emit(object.Key{Resource: "services", Namespace: ch.Key.Namespace, Name: ch.Key.Name})
		return
	case "endpointslices":
		for _, o := range []object.Object{ch.Old, ch.New} {
			if o != nil && o.GetLabels()[discoveryv1.LabelManagedBy] == sliceManager {
				emit(object.Key{Resource: "services", Namespace: ch.Key.Namespace, Name: o.GetLabels()[discoveryv1.LabelServiceName]})
			}
		}
		return
	}
	if ch.Key.Resource == "nodes" {
		emitZoned(v, ch, emit)
		return
	}
	was, _ := ch.Old.(*corev1.Pod)
	is, _ := ch.New.(*corev1.Pod)
	if !endpointChanged(was, is) {
		return
	}
	for o := range v.List("services", ch.Key.Namespace) {
		svc := o.(*corev1.Service)
		switch selects := was != nil && selectsPod(svc, was) || is != nil && selectsPod(svc, is); {
		case selects && (was == nil || sharesZones(svc)): // was is nil when a new leader looks at everything
			emit(object.KeyOf(svc))
		case selects:
			emit(podOfService(object.KeyOf(svc), ch.Key.Name))
		}
	}
}

// emitZoned emits the services of the pods of a node whose zone is another than before, and those whose endpoints zones share if the shares change.
func emitZoned(v View, ch Change, emit func(object.Key)) {
	if zoneFactsOf(ch.Old) != zoneFactsOf(ch.New) {
		for o := range v.List("services", "") {
			if sharesZones(o.(*corev1.Service)) {
				emit(object.KeyOf(o))
			}
		}
	}
	zone := func(o object.Object) string {
		if o == nil {
			return ""
		}
		return o.GetLabels()[corev1.LabelTopologyZone]
	}
	if zone(ch.Old) == zone(ch.New) {
		return
	}
	for p := range v.PodsOn(ch.Key.Name) {
		for o := range v.List("services", p.Namespace) {
			if selectsPod(o.(*corev1.Service), p) {
				emit(object.KeyOf(o))
			}
		}
	}
}

func selectsPod(svc *corev1.Service, p *corev1.Pod) bool {
	for k, want := range svc.Spec.Selector {
		if got, ok := p.Labels[k]; !ok || got != want {
			return false
		}
	}
	return len(svc.Spec.Selector) > 0
}

// endpointChanged tells whether two states of a pod make different endpoints.
func endpointChanged(a, b *corev1.Pod) bool {
	ain, bin := a != nil && inEndpoints(a), b != nil && inEndpoints(b)
	if !ain || !bin {
		return ain != bin
	}
	return a.Status.PodIP != b.Status.PodIP || podReady(a) != podReady(b) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		a.UID != b.UID || a.Spec.NodeName != b.Spec.NodeName || !maps.Equal(a.Labels, b.Labels)
}

// inEndpoints tells whether a pod is an endpoint at all: it has an address and has not ended.
func inEndpoints(p *corev1.Pod) bool { return p.Status.PodIP != "" && !podEnded(p) }

func (c endpoints) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	pod := key
	key, part := c.fold(key)
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil {
		return removeEndpoints(v, key), nil
	}
	svc := o.(*corev1.Service)
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return Result{}, nil
	}
	if part {
		if res, ok := onePod(v, svc, pod.Name[len(key.Name)+1:]); ok {
			return res, nil
		}
	}
	pods := slices.DeleteFunc(podsSelected(v, svc.Namespace, labels.SelectorFromSet(svc.Spec.Selector)), func(p *corev1.Pod) bool { return !inEndpoints(p) })
	groups := groupByPorts(svc, pods)
	var res Result
	packSlices(v, svc, groups, &res)
	packEndpoints(v, svc, groups, &res)
	return res, nil
}

// removeEndpoints removes what a service that is gone leaves behind.
func removeEndpoints(v View, key object.Key) Result {
	var res Result
	ep := object.Key{Resource: "endpoints", Namespace: key.Namespace, Name: key.Name}
	if o, ok := v.Get(ep); ok && o.GetLabels()[labelEndpointsBy] == endpointsManager {
		res.Delete = append(res.Delete, Deletion{Key: ep})
	}
	for _, s := range ownSlices(v, key) {
		res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(s)})
	}
	return res
}

// portGroup is the pods for which a service's ports resolve to the same numbers.
type portGroup struct {
	id    string
	ports []discoveryv1.EndpointPort
	pods  []*corev1.Pod
}

// groupByPorts resolves the target ports for each pod. Pods at which none of the service's ports is found, and all pods of a service without ports
// (headless), make one group without ports.
func groupByPorts(svc *corev1.Service, pods []*corev1.Pod) []*portGroup {
	if len(pods) > 0 && !slices.ContainsFunc(svc.Spec.Ports, func(sp corev1.ServicePort) bool { return sp.TargetPort.StrVal != "" }) {
		ports := resolvePorts(svc, pods[0])
		return []*portGroup{{id: portsID(ports), ports: ports, pods: pods}}
	}
	byID := map[string]*portGroup{}
	var out []*portGroup
	for _, p := range pods {
		ports := resolvePorts(svc, p)
		id := portsID(ports)
		g := byID[id]
		if g == nil {
			g = &portGroup{id: id, ports: ports}
			byID[id] = g
			out = append(out, g)
		}
		g.pods = append(g.pods, p)
	}
	slices.SortFunc(out, func(a, b *portGroup) int { return cmp.Compare(a.id, b.id) })
	return out
}

// resolvePorts are the service's ports at a pod, without those whose names the pod does not know.
func resolvePorts(svc *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		number, ok := targetPort(sp, p)
		if !ok {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		out = append(out, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number, AppProtocol: sp.AppProtocol})
	}
	return out
}

// targetPort finds the number of a service port at a pod; a name is looked up among the ports of its containers and sidecars.
func targetPort(sp *corev1.ServicePort, p *corev1.Pod) (int32, bool) {
	if sp.TargetPort.StrVal == "" {
		if sp.TargetPort.IntVal == 0 {
			return sp.Port, true
		}
		return sp.TargetPort.IntVal, true
	}
	if n, err := strconv.Atoi(sp.TargetPort.StrVal); err == nil {
		return int32(n), true
	}
	find := func(c *corev1.Container) int {
		return slices.IndexFunc(c.Ports, func(cp corev1.ContainerPort) bool {
			return cp.Name == sp.TargetPort.StrVal && cp.Protocol == sp.Protocol
		})
	}
	for i := range p.Spec.Containers {
		if at := find(&p.Spec.Containers[i]); at >= 0 {
			return p.Spec.Containers[i].Ports[at].ContainerPort, true
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if at := find(c); at >= 0 && isSidecar(p, c.Name) {
			return c.Ports[at].ContainerPort, true
		}
	}
	return 0, false
}

// endpointOf is a pod as an endpoint of a service, with the zone of its node, and hints for whom it is if the service prefers what is near.
func endpointOf(v View, svc *corev1.Service, p *corev1.Pod) discoveryv1.Endpoint {
	serving := podReady(p)
	terminating := p.DeletionTimestamp != nil
	ready := serving && !terminating || svc.Spec.PublishNotReadyAddresses
	e := discoveryv1.Endpoint{
		Addresses:  []string{p.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  podReference(p),
	}
	if p.Spec.NodeName != "" {
		e.NodeName = &p.Spec.NodeName
	}
	if h := hostnameIn(svc, p); h != "" {
		e.Hostname = &h
	}
	if o, ok := v.Get(object.Key{Resource: "nodes", Name: p.Spec.NodeName}); ok {
		if zone := o.GetLabels()[corev1.LabelTopologyZone]; zone != "" {
			e.Zone = &zone
		}
	}
	if ready {
		e.Hints = hintsFor(svc, &e)
	}
	return e
}

// hintsFor tells for which nodes and zones an endpoint is, by the service's trafficDistribution.
func hintsFor(svc *corev1.Service, e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if svc.Spec.TrafficDistribution == nil || sharesZones(svc) {
		return nil
	}
	h := &discoveryv1.EndpointHints{}
	if e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	switch *svc.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		if e.Zone == nil {
			return nil
		}
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName == nil {
			return nil
		}
		h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
	default:
		return nil
	}
	return h
}

func podReference(p *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}
}

// hostnameIn is the name that the pod has below a headless service that is its subdomain.
func hostnameIn(svc *corev1.Service, p *corev1.Pod) string {
	if p.Spec.Hostname != "" && p.Spec.Subdomain == svc.Name && svc.Namespace == p.Namespace {
		return p.Spec.Hostname
	}
	return ""
}

func headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

func addressType(p *corev1.Pod) discoveryv1.AddressType {
	if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && a.Is6() {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func serviceOwner(svc *corev1.Service) metav1.OwnerReference {
	return *metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))
}
