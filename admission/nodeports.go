package admission

import (
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/core"

	"reconcile/object"
)

// The range of node ports, as in Kubernetes.
const (
	firstNodePort = 30000
	lastNodePort  = 32767

	notInRange = "provided port is not in the valid range. The range of valid ports is 30000-32767"
)

// needsNodePorts tells whether a service's ports are open on every node.
func needsNodePorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// keepNodePorts gives the ports of an update that name no node port those that they had, and takes away the ones that its type has no use
// for, as the API server does.
func keepNodePorts(o, old *corev1.Service) {
	type at struct {
		protocol corev1.Protocol
		port     int32
	}
	had := map[at]int32{}
	for _, p := range old.Spec.Ports {
		had[at{p.Protocol, p.Port}] = p.NodePort
	}
	// The list may be the stored object's.
	ports := append([]corev1.ServicePort(nil), o.Spec.Ports...)
	if !needsNodePorts(o) {
		for i, p := range ports {
			if needsNodePorts(old) && had[at{p.Protocol, p.Port}] == p.NodePort {
				ports[i].NodePort = 0
			}
		}
		o.Spec.Ports = ports
		return
	}
	named := map[int32]bool{}
	for _, p := range ports {
		named[p.NodePort] = true
	}
	for i, p := range ports {
		if n := had[at{p.Protocol, p.Port}]; p.NodePort == 0 && !named[n] {
			ports[i].NodePort = n
		}
	}
	o.Spec.Ports = ports
}

// checksHealth tells whether a service has a port on every node that tells a load balancer whether a pod of the service is there.
func checksHealth(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// keepHealthPort keeps the port for health checks of a service whose update leaves it out.
func keepHealthPort(o, old *corev1.Service) {
	if checksHealth(o) && checksHealth(old) && o.Spec.HealthCheckNodePort == 0 {
		o.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

// assumeHealthPort lets validation judge a service whose port for health checks will be chosen when it is stored: Kubernetes chooses before it
// judges. old is the stored one or nil.
func assumeHealthPort(o, old *core.Service) {
	switch {
	case !serviceapi.NeedsHealthCheck(o) || o.Spec.HealthCheckNodePort != 0:
	case old != nil && serviceapi.NeedsHealthCheck(old):
		o.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	default:
		o.Spec.HealthCheckNodePort = firstNodePort
	}
}

// nodePortsTaken are the ports on nodes that services have, but for the one of a key.
func nodePortsTaken(v View, but object.Key) map[int32]bool {
	taken := map[int32]bool{}
	for other := range v.List("services", "") {
		if s := other.(*corev1.Service); object.KeyOf(s) != but {
			taken[s.Spec.HealthCheckNodePort] = true
			for _, p := range s.Spec.Ports {
				taken[p.NodePort] = true
			}
		}
	}
	return taken
}

// allocateHealthPort gives a service its port for health checks, or checks the one that it asks for. Its node ports are settled.
func allocateHealthPort(v View, svc *corev1.Service) error {
	if !checksHealth(svc) {
		return nil
	}
	key := object.KeyOf(svc)
	taken := nodePortsTaken(v, key)
	for _, p := range svc.Spec.Ports {
		taken[p.NodePort] = true
	}
	n, path := svc.Spec.HealthCheckNodePort, field.NewPath("spec", "healthCheckNodePort")
	refuse := func(why string) error {
		return invalid(svc, field.Invalid(path, n, fmt.Sprintf("failed to allocate requested HealthCheck NodePort %d: %s", n, why)))
	}
	switch {
	case n == 0:
		free, ok := pickNodePort(key.Path()+":health", taken)
		if !ok {
			return invalid(svc, field.Invalid(path, n, "failed to allocate a HealthCheck NodePort: range is full"))
		}
		svc.Spec.HealthCheckNodePort = free
	case n < firstNodePort || n > lastNodePort:
		return refuse(notInRange)
	case taken[n]:
		return refuse("provided port is already allocated")
	}
	return nil
}

// allocateNodePorts gives a service's ports their node ports, or checks those that it asks for. The choice is a function of the service's
// key and of the ports taken in v, like that of an address.
func allocateNodePorts(v View, svc *corev1.Service) error {
	if !needsNodePorts(svc) {
		return nil
	}
	key := object.KeyOf(svc)
	taken := nodePortsTaken(v, key)
	taken[svc.Spec.HealthCheckNodePort] = true
	path := field.NewPath("spec", "ports")
	// Ports of one number and different protocols share a node port.
	byPort := map[int32]int32{}
	for i, p := range svc.Spec.Ports {
		n := p.NodePort
		switch {
		case n == 0:
			continue
		case n < firstNodePort || n > lastNodePort:
			return invalid(svc, field.Invalid(path.Index(i).Child("nodePort"), n, notInRange))
		case taken[n]:
			return invalid(svc, field.Invalid(path.Index(i).Child("nodePort"), n, "provided port is already allocated"))
		}
		byPort[p.Port] = n
	}
	for _, n := range byPort {
		taken[n] = true
	}
	for i, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			continue
		}
		n, ok := byPort[p.Port]
		if ok && !sharesNodePort(svc.Spec.Ports, i, n) {
			ok = false
		}
		if !ok {
			if n, ok = pickNodePort(fmt.Sprintf("%s:%d", key.Path(), p.Port), taken); !ok {
				return invalid(svc, field.Invalid(path.Index(i).Child("nodePort"), p.NodePort, "failed to allocate a nodePort: range is full"))
			}
		}
		svc.Spec.Ports[i].NodePort = n
		byPort[p.Port], taken[n] = n, true
	}
	return nil
}

// sharesNodePort tells whether a port may have a node port beside the others that have it: with another protocol than theirs.
func sharesNodePort(ports []corev1.ServicePort, i int, n int32) bool {
	for j, p := range ports {
		if j != i && p.NodePort == n && p.Protocol == ports[i].Protocol {
			return false
		}
	}
	return true
}

// pickNodePort chooses the port that a name's hash points to, or the next free one behind it.
func pickNodePort(name string, taken map[int32]bool) (int32, bool) {
	const size = lastNodePort - firstNodePort + 1
	h := fnv.New32a()
	h.Write([]byte(name))
	start := h.Sum32() % size
	for i := range uint32(size) {
		if n := int32(firstNodePort + (start+i)%size); !taken[n] {
			return n, true
		}
	}
	return 0, false
}
