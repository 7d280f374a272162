package controller

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// mirrorManager is what slices that mirror an Endpoints object say of who keeps them.
const mirrorManager = "endpointslicemirroring-controller.k8s.io"

// endpointMirror keeps EndpointSlices for Endpoints that a user made by hand, for a service without a selector: what reads slices,
// as the proxies do, then finds them. Its key is the Endpoints object, whose name is the service's.
type endpointMirror struct{}

func (endpointMirror) Name() string { return "endpointslicemirroring" }
func (endpointMirror) Watches() []string {
	return []string{"endpoints", "services", "endpointslices"}
}

func (endpointMirror) Keys(_ View, ch Change, emit func(object.Key)) {
	name := ch.Key.Name
	if ch.Key.Resource == "endpointslices" {
		s := firstObject(ch.New, ch.Old)
		if s.GetLabels()[discoveryv1.LabelManagedBy] != mirrorManager {
			return
		}
		name = s.GetLabels()[discoveryv1.LabelServiceName]
	}
	emit(object.Key{Resource: "endpoints", Namespace: ch.Key.Namespace, Name: name})
}

// mirrored tells whether an Endpoints object is to be mirrored: a service of its name chooses no pods, and nobody says otherwise.
func mirrored(v View, ep *corev1.Endpoints) bool {
	if ep.DeletionTimestamp != nil || ep.Labels[discoveryv1.LabelSkipMirror] == "true" || ep.Namespace == metav1.NamespaceDefault && ep.Name == "kubernetes" {
		return false
	}
	if _, election := ep.Annotations["control-plane.alpha.kubernetes.io/leader"]; election {
		return false
	}
	o, ok := v.Get(object.Key{Resource: "services", Namespace: ep.Namespace, Name: ep.Name})
	return ok && o.GetDeletionTimestamp() == nil && len(o.(*corev1.Service).Spec.Selector) == 0
}

func (endpointMirror) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	var had []*discoveryv1.EndpointSlice
	for o := range v.Indexed(object.SlicesOf(key.Namespace, key.Name)) {
		s := o.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelManagedBy] == mirrorManager && s.DeletionTimestamp == nil {
			had = append(had, s)
		}
	}
	var res Result
	kept := map[string]bool{}
	if o, ok := v.Get(key); ok && mirrored(v, o.(*corev1.Endpoints)) {
		ep := o.(*corev1.Endpoints)
		wanted, events := mirrorSlices(ep)
		for _, e := range events {
			if !toldAlready(v, e) {
				res.Events = append(res.Events, e)
			}
		}
		for i, want := range wanted {
			// The slices of one object are numbered: what changes in it changes as few of them as can be.
			want.Name = childName(ep.Name, ep.UID, i)
			want.UID = HashUID("endpointslice", string(ep.UID), want.Name, again(v, ep))
			for _, s := range had {
				if s.Name == want.Name {
					next := object.Copy(s)
					next.AddressType, next.Ports, next.Endpoints, next.Labels, next.Annotations = want.AddressType, want.Ports, want.Endpoints, want.Labels, want.Annotations
					want = next
				}
			}
			kept[want.Name] = true
			res.Put = append(res.Put, want)
		}
	}
	for _, s := range had {
		if !kept[s.Name] {
			res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(s)})
		}
	}
	return res, nil
}

// mirrorSlices are the slices of an Endpoints object: one family and one set of ports each, at most maxPerSlice endpoints, of which at
// most maxAddresses a subset are taken. What is left out is told in events.
func mirrorSlices(ep *corev1.Endpoints) (out []*discoveryv1.EndpointSlice, events []Event) {
	invalid, skipped := 0, 0
	open := map[string]*discoveryv1.EndpointSlice{}
	for i := range ep.Subsets {
		ports := mirrorPorts(&ep.Subsets[i])
		taken, bad, beyond := mirrorEndpoints(&ep.Subsets[i])
		invalid, skipped = invalid+bad, skipped+bad+beyond
		for _, e := range taken {
			family := discoveryv1.AddressTypeIPv4
			if a, err := netip.ParseAddr(e.Addresses[0]); err == nil && a.Is6() && !a.Is4In6() {
				family = discoveryv1.AddressTypeIPv6
			}
			id := string(family) + portsID(ports)
			s := open[id]
			if s == nil || len(s.Endpoints) == maxPerSlice {
				s = newMirror(ep, family, ports)
				open[id] = s
				out = append(out, s)
			}
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Or(cmp.Compare(a.AddressType, b.AddressType), cmp.Compare(portsID(a.Ports), portsID(b.Ports)))
	})
	tell := func(reason, message string) {
		events = append(events, Event{Regarding: ep, Type: corev1.EventTypeWarning, Reason: reason, Message: message, Component: "endpoint-slice-mirroring-controller"})
	}
	if invalid > 0 {
		tell("InvalidIPAddress", fmt.Sprintf("Skipped %d invalid IP addresses when mirroring to EndpointSlices", invalid))
	}
	if skipped > invalid {
		tell("TooManyAddressesToMirror", fmt.Sprintf("A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxAddresses, skipped))
	}
	return out, events
}

func newMirror(ep *corev1.Endpoints, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	l := maps.Clone(ep.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[discoveryv1.LabelServiceName], l[discoveryv1.LabelManagedBy] = ep.Name, mirrorManager
	notes := maps.Clone(ep.Annotations)
	for name := range notes {
		if name == corev1.EndpointsLastChangeTriggerTime || name == corev1.LastAppliedConfigAnnotation {
			delete(notes, name)
		}
	}
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{GenerateName: ep.Name + "-", Namespace: ep.Namespace, Labels: l, Annotations: notes,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ep, corev1.SchemeGroupVersion.WithKind("Endpoints"))}},
		AddressType: family, Ports: ports,
	}
	s.SetGroupVersionKind(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"))
	return s
}

func mirrorPorts(s *corev1.EndpointSubset) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range s.Ports {
		p := &s.Ports[i]
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

// mirrorEndpoints are a subset's endpoints, and how many of its addresses are invalid or too many.
func mirrorEndpoints(s *corev1.EndpointSubset) (out []discoveryv1.Endpoint, invalid, beyond int) {
	add := func(list []corev1.EndpointAddress, ready bool) {
		for i := range list {
			if len(out) == maxAddresses {
				beyond += len(list) - i
				return
			}
			if _, err := netip.ParseAddr(list[i].IP); err != nil {
				invalid++
				continue
			}
			a, up := &list[i], ready
			e := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &up}, TargetRef: a.TargetRef, NodeName: a.NodeName}
			if a.Hostname != "" {
				e.Hostname = &a.Hostname
			}
			out = append(out, e)
		}
	}
	add(s.Addresses, true)
	add(s.NotReadyAddresses, false)
	return out, invalid, beyond
}
