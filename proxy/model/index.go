package model

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// serviceKey names a Service object.
type serviceKey struct{ namespace, name string }

func (k serviceKey) compare(o serviceKey) int {
	return cmp.Or(cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.name, o.name))
}

// ownerOf is the Service that a slice belongs to, by the label that the API requires.
func ownerOf(s *discoveryv1.EndpointSlice) serviceKey {
	return serviceKey{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
}

// entry is what the index keeps of one Service object.
type entry struct {
	service *corev1.Service
	slices  map[string]*discoveryv1.EndpointSlice
	fronts  []Frontend
}

// Index keeps Services and EndpointSlices and the State that follows from them, and recomputes only the services that something
// was said about. It keeps the objects it is given and changes none. It is not safe for concurrent use.
type Index struct {
	at       place
	services map[serviceKey]*entry
	slices   map[serviceKey]serviceKey // slice -> its service
	owners   map[Frontend]serviceKey
	losers   map[Frontend][]serviceKey
	dirty    map[serviceKey]struct{}
	state    State
	backends int
}

// NewIndex makes an empty index for one node. An empty node name means no node: every endpoint counts as local.
func NewIndex(node string, dns netip.Addr) *Index {
	return &Index{
		at:       place{node: node, dns: dns},
		services: make(map[serviceKey]*entry),
		slices:   make(map[serviceKey]serviceKey),
		owners:   make(map[Frontend]serviceKey),
		losers:   make(map[Frontend][]serviceKey),
		dirty:    make(map[serviceKey]struct{}),
		state:    make(State),
	}
}

// SetNodeAddrs says on which addresses node ports are served.
func (x *Index) SetNodeAddrs(addrs []netip.Addr) {
	if slices.Equal(x.at.addrs, addrs) {
		return
	}
	x.at.addrs = slices.Clone(addrs)
	for k, e := range x.services {
		if e.service != nil && e.service.Spec.Type != corev1.ServiceTypeClusterIP {
			x.dirty[k] = struct{}{}
		}
	}
}

// UpsertService adds or replaces a Service.
func (x *Index) UpsertService(s *corev1.Service) {
	k := serviceKey{s.Namespace, s.Name}
	x.entry(k).service = s
	x.dirty[k] = struct{}{}
}

// RemoveService forgets a Service. Its slices stay, for a Service of the same name that may come.
func (x *Index) RemoveService(namespace, name string) {
	k := serviceKey{namespace, name}
	if e, ok := x.services[k]; ok {
		e.service = nil
		x.dirty[k] = struct{}{}
	}
}

// ReplaceServices makes the given Services the whole set.
func (x *Index) ReplaceServices(all []*corev1.Service) {
	keep := make(map[serviceKey]struct{}, len(all))
	for _, s := range all {
		keep[serviceKey{s.Namespace, s.Name}] = struct{}{}
		x.UpsertService(s)
	}
	for k, e := range x.services {
		if _, ok := keep[k]; !ok && e.service != nil {
			x.RemoveService(k.namespace, k.name)
		}
	}
}

// UpsertSlice adds or replaces an EndpointSlice.
func (x *Index) UpsertSlice(s *discoveryv1.EndpointSlice) {
	id, owner := serviceKey{s.Namespace, s.Name}, ownerOf(s)
	if old, ok := x.slices[id]; ok && old != owner {
		x.RemoveSlice(s.Namespace, s.Name)
	}
	if owner.name == "" {
		return
	}
	x.slices[id] = owner
	x.entry(owner).slices[s.Name] = s
	x.dirty[owner] = struct{}{}
}

// RemoveSlice forgets an EndpointSlice.
func (x *Index) RemoveSlice(namespace, name string) {
	id := serviceKey{namespace, name}
	owner, ok := x.slices[id]
	if !ok {
		return
	}
	delete(x.slices, id)
	delete(x.services[owner].slices, name)
	x.dirty[owner] = struct{}{}
}

// ReplaceSlices makes the given EndpointSlices the whole set.
func (x *Index) ReplaceSlices(all []*discoveryv1.EndpointSlice) {
	keep := make(map[serviceKey]struct{}, len(all))
	for _, s := range all {
		keep[serviceKey{s.Namespace, s.Name}] = struct{}{}
		x.UpsertSlice(s)
	}
	for id := range x.slices {
		if _, ok := keep[id]; !ok {
			x.RemoveSlice(id.namespace, id.name)
		}
	}
}

// State is a copy of the state after the last Advance. Its services are shared and must not be changed.
func (x *Index) State() State {
	out := make(State, len(x.state))
	for f, s := range x.state {
		out[f] = s
	}
	return out
}

// Backends is the number of backends of all services after the last Advance.
func (x *Index) Backends() int { return x.backends }

// Advance recomputes the services that something was said about since the last call and returns the operations from the state
// before to the state after. Its cost depends on those services only.
func (x *Index) Advance() Delta {
	before, after := make(State), make(State)
	for len(x.dirty) > 0 {
		keys := make([]serviceKey, 0, len(x.dirty))
		for k := range x.dirty {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, serviceKey.compare)
		for _, k := range keys {
			delete(x.dirty, k)
			x.recompute(k, before)
		}
	}
	for f := range before {
		if s, ok := x.state[f]; ok {
			after[f] = s
		}
		if before[f].Frontend != f {
			delete(before, f)
		}
	}
	d := Diff(before, after)
	for f := range before {
		x.backends -= len(before[f].Backends)
	}
	for f := range after {
		x.backends += len(after[f].Backends)
	}
	return d
}

// recompute brings the state up to date for one Service object. What a frontend was before is noted in before once; one that
// was not is noted as the zero Service.
func (x *Index) recompute(k serviceKey, before State) {
	e, ok := x.services[k]
	if !ok {
		return
	}
	var want []Service
	if e.service != nil {
		list := make([]*discoveryv1.EndpointSlice, 0, len(e.slices))
		for _, s := range e.slices {
			list = append(list, s)
		}
		want = expand(e.service, list, x.at)
	}
	old := e.fronts
	e.fronts = nil
	for _, s := range want {
		if x.claim(k, s.Frontend) {
			note(before, x.state, s.Frontend)
			x.state[s.Frontend] = s
			e.fronts = append(e.fronts, s.Frontend)
		}
	}
	for _, f := range old {
		if !slices.Contains(e.fronts, f) && x.owners[f] == k {
			note(before, x.state, f)
			x.release(f)
		}
	}
	if e.service == nil {
		x.forgetClaims(k)
		if len(e.slices) == 0 {
			delete(x.services, k)
		}
	}
}

// claim makes k the owner of f, unless a Service whose name comes first owns it. Two Services can claim one frontend by
// externalIPs; the order of names decides, so that every node decides alike.
func (x *Index) claim(k serviceKey, f Frontend) bool {
	owner, owned := x.owners[f]
	if !owned || owner == k {
		x.owners[f] = k
		return true
	}
	if owner.compare(k) < 0 {
		x.lose(f, k)
		return false
	}
	x.owners[f] = k
	x.lose(f, owner)
	if e := x.services[owner]; e != nil {
		e.fronts = slices.DeleteFunc(e.fronts, func(g Frontend) bool { return g == f })
	}
	return true
}

func (x *Index) lose(f Frontend, k serviceKey) {
	if !slices.Contains(x.losers[f], k) {
		x.losers[f] = append(x.losers[f], k)
	}
}

// release gives up a frontend; the Services that had lost it are looked at again.
func (x *Index) release(f Frontend) {
	delete(x.owners, f)
	delete(x.state, f)
	for _, k := range x.losers[f] {
		x.dirty[k] = struct{}{}
	}
	delete(x.losers, f)
}

// forgetClaims takes a removed Service off the lists of losers. They are few: only clashing frontends have one.
func (x *Index) forgetClaims(k serviceKey) {
	for f, list := range x.losers {
		list = slices.DeleteFunc(list, func(l serviceKey) bool { return l == k })
		if len(list) == 0 {
			delete(x.losers, f)
			continue
		}
		x.losers[f] = list
	}
}

func (x *Index) entry(k serviceKey) *entry {
	e, ok := x.services[k]
	if !ok {
		e = &entry{slices: make(map[string]*discoveryv1.EndpointSlice)}
		x.services[k] = e
	}
	return e
}

// note keeps what f was before the first change of a round.
func note(before, state State, f Frontend) {
	if _, done := before[f]; !done {
		before[f] = state[f]
	}
}
