package controller

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// ownSlices are the slices that this controller keeps for a service, by name.
func ownSlices(v View, svc object.Key) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for o := range v.Indexed(object.SlicesOf(svc.Namespace, svc.Name)) {
		s := o.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelManagedBy] == sliceManager && s.DeletionTimestamp == nil {
			out = append(out, s)
		}
	}
	return out
}

// packSlices brings a service's slices to the wanted endpoints with few writes: an endpoint stays in the slice it is in, new
// ones fill slices with room, and slices that become empty go. A service without endpoints keeps one empty slice.
func packSlices(v View, svc *corev1.Service, groups []*portGroup, res *Result) {
	existing := ownSlices(v, object.KeyOf(svc))
	byPorts := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range existing {
		id := portsID(s.Ports)
		byPorts[id] = append(byPorts[id], s)
	}
	kept := map[string]bool{}
	if len(groups) == 0 {
		groups = []*portGroup{{id: "null"}}
	}
	spare := unused(existing, groups)
	namer := sliceNamer{v: v, svc: svc}
	for _, g := range groups {
		had := byPorts[g.id]
		if len(had) == 0 && len(spare) > 0 {
			had, spare = spare[:1], spare[1:]
		}
		for _, s := range packGroup(v, svc, g, had, &namer) {
			kept[s.Name] = true
			res.Put = append(res.Put, s)
		}
	}
	for _, s := range existing {
		if !kept[s.Name] {
			res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(s)})
		}
	}
	if sharesZones(svc) {
		hintSlices(v, svc, existing, res)
	}
}

// hintSlices gives the slices that res puts the hints of a service whose zones share its endpoints.
func hintSlices(v View, svc *corev1.Service, existing []*discoveryv1.EndpointSlice, res *Result) {
	had, byType := map[string]*discoveryv1.EndpointSlice{}, map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	for _, s := range existing {
		had[s.Name] = s
	}
	for _, o := range res.Put {
		if s, ok := o.(*discoveryv1.EndpointSlice); ok {
			byType[s.AddressType] = append(byType[s.AddressType], s)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(byType)) {
		res.Events = append(res.Events, shareZones(v, svc, byType[t], had)...)
	}
}

// unused are the slices for ports that no group has: one of them serves a new group, instead of one going and one coming.
func unused(existing []*discoveryv1.EndpointSlice, groups []*portGroup) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(slices.Clone(existing), func(s *discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(groups, func(g *portGroup) bool { return g.id == portsID(s.Ports) })
	})
}

func portsID(ports []discoveryv1.EndpointPort) string {
	if len(ports) == 0 {
		return "null"
	}
	b, err := json.Marshal(ports)
	if err != nil {
		return ""
	}
	return string(b)
}

func packGroup(v View, svc *corev1.Service, g *portGroup, existing []*discoveryv1.EndpointSlice, namer *sliceNamer) []*discoveryv1.EndpointSlice {
	wanted := make(map[string]discoveryv1.Endpoint, len(g.pods))
	for _, p := range g.pods {
		wanted[string(p.UID)] = endpointOf(v, svc, p)
	}
	var out []*discoveryv1.EndpointSlice
	for _, had := range existing {
		s := sliceFor(v, svc, g, had.Name, had)
		for _, e := range had.Endpoints {
			if e.TargetRef == nil {
				continue
			}
			if now, ok := wanted[string(e.TargetRef.UID)]; ok {
				s.Endpoints = append(s.Endpoints, now)
				delete(wanted, string(e.TargetRef.UID))
			}
		}
		out = append(out, s)
	}
	for _, p := range g.pods {
		e, ok := wanted[string(p.UID)]
		if !ok {
			continue
		}
		i := slices.IndexFunc(out, func(s *discoveryv1.EndpointSlice) bool { return len(s.Endpoints) < maxPerSlice })
		if i < 0 {
			i = len(out)
			out = append(out, sliceFor(v, svc, g, namer.next(), nil))
		}
		out[i].Endpoints = append(out[i].Endpoints, e)
	}
	full := slices.DeleteFunc(slices.Clone(out), func(s *discoveryv1.EndpointSlice) bool { return len(s.Endpoints) == 0 })
	if len(full) > 0 || len(g.pods) > 0 {
		return full
	}
	if len(out) > 0 {
		return out[:1]
	}
	return []*discoveryv1.EndpointSlice{sliceFor(v, svc, g, namer.next(), nil)}
}

func sliceFor(v View, svc *corev1.Service, g *portGroup, name string, had *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{}
	if had != nil {
		s = object.Copy(had)
	} else {
		s.Name, s.GenerateName, s.Namespace = name, svc.Name+"-", svc.Namespace
		s.UID = HashUID("endpointslice", string(svc.UID), name, again(v, svc))
		s.OwnerReferences = []metav1.OwnerReference{serviceOwner(svc)}
	}
	s.AddressType = discoveryv1.AddressTypeIPv4
	if len(g.pods) > 0 {
		s.AddressType = addressType(g.pods[0])
	}
	s.Ports, s.Endpoints = g.ports, nil
	l := make(map[string]string, len(svc.Labels)+3)
	maps.Copy(l, svc.Labels)
	delete(l, corev1.IsHeadlessService)
	if headless(svc) {
		l[corev1.IsHeadlessService] = ""
	}
	l[discoveryv1.LabelServiceName], l[discoveryv1.LabelManagedBy] = svc.Name, sliceManager
	s.Labels = l
	return s
}

// sliceNamer gives out the names of new slices: the service's name and a hash of its UID and a number, the lowest that is free.
type sliceNamer struct {
	v   View
	svc *corev1.Service
	n   int
}

func (s *sliceNamer) next() string {
	for {
		name := childName(s.svc.Name, s.svc.UID, s.n)
		s.n++
		if _, taken := s.v.Get(object.Key{Resource: "endpointslices", Namespace: s.svc.Namespace, Name: name}); !taken {
			return name
		}
	}
}

// packEndpoints keeps the Endpoints object of old, with the first thousand addresses.
func packEndpoints(v View, svc *corev1.Service, groups []*portGroup, res *Result) {
	key := object.Key{Resource: "endpoints", Namespace: svc.Namespace, Name: svc.Name}
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace, UID: HashUID("endpoints", string(svc.UID), again(v, svc))}}
	if o, ok := v.Get(key); ok {
		ep = object.Copy(o).(*corev1.Endpoints)
	}
	l := make(map[string]string, len(svc.Labels)+2)
	maps.Copy(l, svc.Labels)
	l[labelEndpointsBy] = endpointsManager
	if headless(svc) {
		l[corev1.IsHeadlessService] = ""
	}
	ep.Labels, ep.Subsets = l, nil
	left := maxAddresses
	for _, g := range groups {
		if s, ok := subset(svc, g, &left); ok {
			ep.Subsets = append(ep.Subsets, s)
		}
	}
	ep.Annotations = maps.Clone(ep.Annotations)
	delete(ep.Annotations, corev1.EndpointsOverCapacity)
	if left < 0 {
		if ep.Annotations == nil {
			ep.Annotations = map[string]string{}
		}
		ep.Annotations[corev1.EndpointsOverCapacity] = "truncated"
	}
	res.Put = append(res.Put, ep)
}

// addressOf is a pod as an address of a service's Endpoints object.
func addressOf(svc *corev1.Service, p *corev1.Pod) corev1.EndpointAddress {
	a := corev1.EndpointAddress{IP: p.Status.PodIP, Hostname: hostnameIn(svc, p), TargetRef: podReference(p)}
	if p.Spec.NodeName != "" {
		a.NodeName = &p.Spec.NodeName
	}
	return a
}

// subset is a group's part of the Endpoints object; left is how many addresses may still be added. Pods without a port of the service are in none.
func subset(svc *corev1.Service, g *portGroup, left *int) (corev1.EndpointSubset, bool) {
	var s corev1.EndpointSubset
	if len(g.ports) == 0 && len(svc.Spec.Ports) > 0 {
		return s, false
	}
	for _, p := range g.ports {
		s.Ports = append(s.Ports, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
	}
	for _, p := range g.pods {
		if p.DeletionTimestamp != nil && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		if *left--; *left < 0 {
			continue
		}
		a := addressOf(svc, p)
		if podReady(p) || svc.Spec.PublishNotReadyAddresses {
			s.Addresses = append(s.Addresses, a)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, a)
		}
	}
	for _, list := range [][]corev1.EndpointAddress{s.Addresses, s.NotReadyAddresses} {
		slices.SortFunc(list, compareAddresses)
	}
	return s, len(s.Addresses)+len(s.NotReadyAddresses) > 0
}
