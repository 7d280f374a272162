package controller

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/object"
)

var kubeDNSKey = object.Key{Resource: "services", Namespace: metav1.NamespaceSystem, Name: "kube-dns"}

// dnsService makes the service kube-system/kube-dns at the tenth address, where people and charts look for cluster DNS. It has no
// selector and no endpoints: on every node the node's own DNS server answers on that address, and proxy/model leaves it to
// that. The controller makes the service if it is not there, and leaves alone what somebody made of it.
type dnsService struct {
	cluster  string
	services netip.Prefix
}

func (dnsService) Name() string      { return "dnsservice" }
func (dnsService) Watches() []string { return []string{"services"} }

// Start makes the service appear in an empty cluster.
func (dnsService) Start() []object.Key { return []object.Key{kubeDNSKey} }

func (dnsService) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Key == kubeDNSKey && ch.New == nil {
		emit(kubeDNSKey)
	}
}

func (c dnsService) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	if _, ok := v.Get(key); ok {
		return Result{}, nil
	}
	ns, ok := v.Get(object.Key{Resource: "namespaces", Name: key.Namespace})
	if !ok || ns.GetDeletionTimestamp() != nil {
		return Result{Wake: now.Add(retryError)}, nil
	}
	addr := c.services.Masked().Addr()
	for range 10 {
		addr = addr.Next()
	}
	ip := addr.String()
	single, internal := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	return Result{Put: []object.Object{&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace, UID: HashUID("service", c.cluster, key.Name, again(v, ns)),
			Labels: map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, SessionAffinity: corev1.ServiceAffinityNone,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single, InternalTrafficPolicy: &internal,
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}}}, nil
}
