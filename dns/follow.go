package dns

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"reconcile/object"
)

// Resources that the server follows.
const (
	resourceServices = "services"
	resourceSlices   = "endpointslices"
)

// follower keeps the objects and brings the table up to date with each change. Until both resources have been seen whole it
// leaves the table as the state file made it.
type follower struct {
	table   *table
	changed func()

	mu       sync.Mutex
	synced   map[string]bool
	services map[key]*corev1.Service
	slices   map[key]map[string]*discoveryv1.EndpointSlice
	owners   map[key]key // slice -> its service
}

func newFollower(t *table, changed func()) *follower {
	return &follower{table: t, changed: changed, synced: make(map[string]bool), services: make(map[key]*corev1.Service),
		slices: make(map[key]map[string]*discoveryv1.EndpointSlice), owners: make(map[key]key)}
}

// receiver is the follower for one resource.
type receiver struct {
	*follower
	resource string
}

// Replace implements object.Receiver.
func (r receiver) Replace(all []object.Object) {
	r.mu.Lock()
	if r.resource == resourceServices {
		clear(r.services)
	} else {
		clear(r.slices)
		clear(r.owners)
	}
	for _, o := range all {
		r.note(o)
	}
	r.synced[r.resource] = true
	if r.whole() {
		r.all()
	}
	r.mu.Unlock()
	r.changed()
}

// Upsert implements object.Receiver.
func (r receiver) Upsert(o object.Object) {
	r.mu.Lock()
	for _, k := range r.note(o) {
		r.update(k)
	}
	r.mu.Unlock()
	r.changed()
}

// Remove implements object.Receiver.
func (r receiver) Remove(k object.Key) {
	r.mu.Lock()
	id := key{k.Namespace, k.Name}
	if r.resource == resourceServices {
		delete(r.services, id)
		r.update(id)
	} else if owner, ok := r.owners[id]; ok {
		r.forgetSlice(id)
		r.update(owner)
	}
	r.mu.Unlock()
	r.changed()
}

// note keeps an object and returns the services whose names may have changed.
func (f *follower) note(o object.Object) []key {
	id := key{o.GetNamespace(), o.GetName()}
	switch o := o.(type) {
	case *corev1.Service:
		f.services[id] = o
		return []key{id}
	case *discoveryv1.EndpointSlice:
		touched := []key{{o.Namespace, o.Labels[discoveryv1.LabelServiceName]}}
		if old, ok := f.owners[id]; ok && old != touched[0] {
			f.forgetSlice(id)
			touched = append(touched, old)
		}
		f.owners[id] = touched[0]
		if f.slices[touched[0]] == nil {
			f.slices[touched[0]] = make(map[string]*discoveryv1.EndpointSlice)
		}
		f.slices[touched[0]][o.Name] = o
		return touched
	}
	return nil
}

func (f *follower) forgetSlice(id key) {
	owner := f.owners[id]
	delete(f.owners, id)
	delete(f.slices[owner], id.name)
	if len(f.slices[owner]) == 0 {
		delete(f.slices, owner)
	}
}

func (f *follower) whole() bool { return f.synced[resourceServices] && f.synced[resourceSlices] }

// all makes the table the whole of what is known.
func (f *follower) all() {
	f.table.services.Range(func(k, _ any) bool {
		if _, ok := f.services[k.(key)]; !ok {
			f.table.set(k.(key), nil)
		}
		return true
	})
	for k := range f.services {
		f.update(k)
	}
	f.table.known.Store(true)
}

// update works out one service's names anew.
func (f *follower) update(k key) {
	if !f.whole() {
		return
	}
	svc := f.services[k]
	if svc == nil {
		f.table.set(k, nil)
		return
	}
	list := make([]*discoveryv1.EndpointSlice, 0, len(f.slices[k]))
	for _, s := range f.slices[k] {
		list = append(list, s)
	}
	f.table.set(k, newService(svc, list))
}
