package controller

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"reconcile/object"
)

// podOfService is the key of one pod's part in a service's endpoints: no name has a slash.
func podOfService(svc object.Key, pod string) object.Key {
	svc.Name += "/" + pod
	return svc
}

// fold tells which service a key of one pod is about: where many pods of one change at once, one run for all of them costs less.
func (endpoints) fold(key object.Key) (whole object.Key, part bool) {
	whole = key
	whole.Name, _, part = strings.Cut(key.Name, "/")
	return whole, part
}

// onePod brings one pod's endpoint up to date. What it costs follows from the one slice that it is in, not from how many endpoints the service has. False
// says that this is not enough: a slice comes or goes, or the ports do.
func onePod(v View, svc *corev1.Service, name string) (Result, bool) {
	if sharesZones(svc) {
		return Result{}, false
	}
	p, ports := wantedPod(v, svc, name)
	c := podChange{v: v, svc: svc, name: name, p: p, ports: ports}
	if p != nil {
		c.id = portsID(ports)
	}
	if !c.slices() || !c.addresses() {
		return Result{}, false
	}
	return c.res, true
}

// wantedPod is a pod if it is an endpoint of the service, and its ports.
func wantedPod(v View, svc *corev1.Service, name string) (*corev1.Pod, []discoveryv1.EndpointPort) {
	o, ok := v.Get(object.Key{Resource: "pods", Namespace: svc.Namespace, Name: name})
	if !ok {
		return nil, nil
	}
	p := o.(*corev1.Pod)
	if !inEndpoints(p) || !selectsPod(svc, p) {
		return nil, nil
	}
	return p, resolvePorts(svc, p)
}

// podChange is one run for one pod of a service.
type podChange struct {
	v     View
	svc   *corev1.Service
	name  string
	p     *corev1.Pod // nil if it is no endpoint
	ports []discoveryv1.EndpointPort
	id    string
	res   Result
}

// isOf tells whether an endpoint or address is the pod's.
func isOf(ref *corev1.ObjectReference, pod string) bool { return ref != nil && ref.Name == pod }

// slices changes the slice that has the pod, or is to have it.
func (c *podChange) slices() bool {
	var room *discoveryv1.EndpointSlice
	for _, s := range ownSlices(c.v, object.KeyOf(c.svc)) {
		i := slices.IndexFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return isOf(e.TargetRef, c.name) })
		if i < 0 {
			if c.p != nil && room == nil && len(s.Endpoints) < maxPerSlice && len(s.Endpoints) > 0 && s.AddressType == addressType(c.p) && portsID(s.Ports) == c.id {
				room = s
			}
			continue
		}
		next := *s
		switch {
		case c.p == nil && len(s.Endpoints) == 1:
			return false
		case c.p == nil:
			next.Endpoints = slices.Delete(slices.Clone(s.Endpoints), i, i+1)
		case s.Endpoints[i].TargetRef.UID != c.p.UID || s.AddressType != addressType(c.p) || portsID(s.Ports) != c.id:
			return false
		default:
			next.Endpoints = slices.Clone(s.Endpoints)
			next.Endpoints[i] = endpointOf(c.v, c.svc, c.p)
		}
		c.res.Put = append(c.res.Put, &next)
		return true
	}
	if c.p == nil {
		return true
	}
	if room == nil {
		return false
	}
	next := *room
	next.Endpoints = append(slices.Clone(room.Endpoints), endpointOf(c.v, c.svc, c.p))
	c.res.Put = append(c.res.Put, &next)
	return true
}

// addresses does the same with the Endpoints object, if it has one set of ports only.
func (c *podChange) addresses() bool {
	o, ok := c.v.Get(object.Key{Resource: "endpoints", Namespace: c.svc.Namespace, Name: c.svc.Name})
	if !ok {
		return false
	}
	ep := *o.(*corev1.Endpoints)
	_, full := ep.Annotations[corev1.EndpointsOverCapacity]
	wanted := c.p != nil && (len(c.ports) > 0 || len(c.svc.Spec.Ports) == 0) && (c.p.DeletionTimestamp == nil || c.svc.Spec.PublishNotReadyAddresses)
	if len(ep.Subsets) != 1 {
		return len(ep.Subsets) == 0 && !wanted
	}
	s := ep.Subsets[0]
	of := func(a corev1.EndpointAddress) bool { return isOf(a.TargetRef, c.name) }
	has := slices.ContainsFunc(s.Addresses, of) || slices.ContainsFunc(s.NotReadyAddresses, of)
	n := len(s.Addresses) + len(s.NotReadyAddresses)
	switch {
	case !has && !wanted && !full:
		return true
	case has != wanted && (full || wanted && n >= maxAddresses || !wanted && n == 1):
		return false
	case !has && !wanted:
		return true
	case wanted && portsID(slicePorts(s.Ports)) != c.id:
		return false
	}
	s.Addresses = slices.DeleteFunc(slices.Clone(s.Addresses), of)
	s.NotReadyAddresses = slices.DeleteFunc(slices.Clone(s.NotReadyAddresses), of)
	if wanted {
		to := &s.NotReadyAddresses
		if podReady(c.p) || c.svc.Spec.PublishNotReadyAddresses {
			to = &s.Addresses
		}
		a := addressOf(c.svc, c.p)
		i, _ := slices.BinarySearchFunc(*to, a, compareAddresses)
		*to = slices.Insert(*to, i, a)
	}
	ep.Subsets = []corev1.EndpointSubset{s}
	c.res.Put = append(c.res.Put, &ep)
	return true
}

// slicePorts are the ports of an Endpoints object as those of a slice.
func slicePorts(ports []corev1.EndpointPort) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range ports {
		p := &ports[i]
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &p.Port, AppProtocol: p.AppProtocol})
	}
	return out
}

// compareAddresses orders the addresses of an Endpoints object; pods of the host's network have one in common.
func compareAddresses(a, b corev1.EndpointAddress) int {
	return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.TargetRef.Name, b.TargetRef.Name))
}
