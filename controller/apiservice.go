package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/object"
)

const (
	// ServerLeasePrefix begins the names of the leases in kube-system by which servers say that they live; behind it stands the
	// server's id.
	ServerLeasePrefix = "reconcile-server-"
	// AnnotationAddress is where a server's lease tells the address (IP:PORT) at which the server serves the API.
	AnnotationAddress = "reconcile.local/address"
	// AnnotationStore is where it tells how much room the server's store takes: {"log": N, "snapshots": N, "blobs": N}, in bytes.
	AnnotationStore = "reconcile.local/store"
	// AnnotationDisk is where a server's lease tells that the disk of its data directory is nearly full; it is absent if it is not.
	AnnotationDisk = "reconcile.local/disk-pressure"
	// LeaderLease is the lease in kube-system of the leading server. Its acquireTime is when the term began: no node counts as
	// lost for a silence from before it, since a new leader has listened only since then.
	LeaderLease = "reconcile-leader"
	// defaultServerLease is how long a lease holds that does not say it, in seconds.
	defaultServerLease = 40
)

var kubernetesKey = object.Key{Resource: "services", Namespace: metav1.NamespaceDefault, Name: "kubernetes"}

// apiService keeps the service default/kubernetes, its Endpoints and EndpointSlice: every server whose lease is fresh. Its input
// are the servers' leases, which the servers renew.
type apiService struct {
	cluster  string
	services netip.Prefix
}

func (apiService) Name() string { return "apiservice" }
func (apiService) Watches() []string {
	return []string{"leases", "services", "endpoints", "endpointslices"}
}

// Start makes the service appear in an empty cluster.
func (apiService) Start() []object.Key { return []object.Key{kubernetesKey} }

func (apiService) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "leases" {
		if ch.Key.Namespace == metav1.NamespaceSystem && strings.HasPrefix(ch.Key.Name, ServerLeasePrefix) {
			emit(kubernetesKey)
		}
		return
	}
	if ch.Key.Namespace == kubernetesKey.Namespace && ch.Key.Name == kubernetesKey.Name {
		emit(kubernetesKey)
	}
}

func (c apiService) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	ns, ok := v.Get(object.Key{Resource: "namespaces", Name: key.Namespace})
	if !ok || ns.GetDeletionTimestamp() != nil {
		return Result{Wake: now.Add(retryError)}, nil
	}
	servers, wake := liveServers(v, now)
	res := Result{Wake: wake}
	svc := c.service(v, ns, servers)
	res.Put = append(res.Put, svc)
	byPort := map[uint16][]string{}
	var ports []uint16
	for _, a := range servers {
		if byPort[a.Port()] == nil {
			ports = append(ports, a.Port())
		}
		byPort[a.Port()] = append(byPort[a.Port()], a.Addr().String())
	}
	slices.Sort(ports)
	putAPIEndpoints(v, svc, ports, byPort, &res)
	putAPISlices(v, svc, ports, byPort, &res)
	return res, nil
}

// freshUntil is when a lease goes stale; long ago for one that was never renewed.
func freshUntil(l *coordinationv1.Lease) time.Time {
	if l.Spec.RenewTime == nil {
		return time.Time{}
	}
	seconds := int32(defaultServerLease)
	if l.Spec.LeaseDurationSeconds != nil {
		seconds = *l.Spec.LeaseDurationSeconds
	}
	return l.Spec.RenewTime.Add(time.Duration(seconds) * time.Second)
}

// liveServers returns the addresses in the servers' fresh leases, sorted, and when the first of them goes stale.
func liveServers(v View, now time.Time) (out []netip.AddrPort, wake time.Time) {
	for o := range v.List("leases", metav1.NamespaceSystem) {
		l := o.(*coordinationv1.Lease)
		if !strings.HasPrefix(l.Name, ServerLeasePrefix) {
			continue
		}
		a, err := netip.ParseAddrPort(l.Annotations[AnnotationAddress])
		if err != nil {
			continue
		}
		until := freshUntil(l)
		if !until.After(now) {
			continue
		}
		if wake.IsZero() || until.Before(wake) {
			wake = until
		}
		out = append(out, a)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out), wake
}

func apiLabels() map[string]string {
	return map[string]string{"component": "apiserver", "provider": "kubernetes"}
}

func (c apiService) service(v View, ns object.Object, servers []netip.AddrPort) *corev1.Service {
	target := int32(6443)
	if len(servers) > 0 {
		target = int32(servers[0].Port())
	}
	ip := c.services.Masked().Addr().Next().String()
	single, internal := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: kubernetesKey.Name, Namespace: kubernetesKey.Namespace, UID: HashUID("service", c.cluster, "kubernetes", again(v, ns)), Labels: apiLabels()}}
	if o, ok := v.Get(kubernetesKey); ok {
		svc = object.Copy(o).(*corev1.Service)
	}
	svc.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, SessionAffinity: corev1.ServiceAffinityNone,
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single, InternalTrafficPolicy: &internal,
		Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(target)}},
	}
	return svc
}

func putAPIEndpoints(v View, svc *corev1.Service, ports []uint16, byPort map[uint16][]string, res *Result) {
	key := object.Key{Resource: "endpoints", Namespace: kubernetesKey.Namespace, Name: kubernetesKey.Name}
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace, UID: HashUID("endpoints", string(svc.UID), again(v, svc)),
		Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}}}
	if o, ok := v.Get(key); ok {
		ep = object.Copy(o).(*corev1.Endpoints)
	}
	ep.Subsets = nil
	for _, p := range ports {
		s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Port: int32(p), Protocol: corev1.ProtocolTCP}}}
		for _, a := range byPort[p] {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: a})
		}
		ep.Subsets = append(ep.Subsets, s)
	}
	res.Put = append(res.Put, ep)
}

// putAPISlices keeps one slice a port and address family; nearly always that is the one named "kubernetes".
func putAPISlices(v View, svc *corev1.Service, ports []uint16, byPort map[uint16][]string, res *Result) {
	kept := map[string]bool{}
	for i, p := range ports {
		name := kubernetesKey.Name
		if i > 0 {
			name = fmt.Sprintf("%s-%d", name, p)
		}
		kept[name] = true
		key := object.Key{Resource: "endpointslices", Namespace: kubernetesKey.Namespace, Name: name}
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: key.Namespace, UID: HashUID("endpointslice", string(svc.UID), name, again(v, svc)),
			Labels: map[string]string{discoveryv1.LabelServiceName: kubernetesKey.Name}}}
		if o, ok := v.Get(key); ok {
			s = object.Copy(o).(*discoveryv1.EndpointSlice)
		}
		portName, protocol, number := "https", corev1.ProtocolTCP, int32(p)
		s.AddressType = discoveryv1.AddressTypeIPv4
		s.Ports = []discoveryv1.EndpointPort{{Name: &portName, Protocol: &protocol, Port: &number}}
		s.Endpoints = nil
		for _, a := range byPort[p] {
			ready := true
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
		}
		res.Put = append(res.Put, s)
	}
	for o := range v.List("endpointslices", kubernetesKey.Namespace) {
		if o.GetLabels()[discoveryv1.LabelServiceName] == kubernetesKey.Name && o.GetLabels()[discoveryv1.LabelManagedBy] == "" && !kept[o.GetName()] {
			res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(o)})
		}
	}
}
