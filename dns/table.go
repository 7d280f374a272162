package dns

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// key names a Service.
type key struct{ namespace, name string }

// table is what queries read, without locks: one immutable entry a service, replaced as a whole.
type table struct {
	services   sync.Map // key -> *service
	namespaces sync.Map // string -> *atomic.Int64, the number of its services
	reverse    sync.Map // netip.Addr -> reverse
	// known tells that the table holds the cluster's names, from a server or from the state file; before that it answers nothing.
	known atomic.Bool
}

// reverse is what an address is the address of. Of several services with one endpoint, the last one that changed is named.
type reverse struct {
	key  key
	host string
}

func (t *table) get(k key) *service {
	v, ok := t.services.Load(k)
	if !ok {
		return nil
	}
	return v.(*service)
}

// set replaces a service's names; nil removes them. Only one goroutine may set.
func (t *table) set(k key, s *service) {
	old := t.get(k)
	if s != nil {
		t.services.Store(k, s)
		s.reverses(func(a netip.Addr, host string) { t.reverse.Store(a, reverse{k, host}) })
	} else {
		t.services.Delete(k)
	}
	if old != nil {
		old.reverses(func(a netip.Addr, host string) {
			if r, ok := t.reverse.Load(a); ok && r.(reverse).key == k && !s.has(a) {
				t.reverse.Delete(a)
			}
		})
	}
	t.count(k.namespace, old, s)
}

// count keeps the number of services of a namespace: a namespace's name exists while it has one.
func (t *table) count(namespace string, old, now *service) {
	if (old == nil) == (now == nil) {
		return
	}
	v, _ := t.namespaces.LoadOrStore(namespace, new(atomic.Int64))
	n := v.(*atomic.Int64)
	if now != nil {
		n.Add(1)
	} else if n.Add(-1) == 0 {
		t.namespaces.Delete(namespace)
	}
}

func (t *table) hasNamespace(ns string) bool {
	_, ok := t.namespaces.Load(ns)
	return ok
}

// reverses calls f for each address that has a reverse name in the service.
func (s *service) reverses(f func(a netip.Addr, host string)) {
	if !s.Headless {
		for _, a := range s.Addrs {
			f(a, "")
		}
		return
	}
	for host, addrs := range s.Hosts {
		for _, a := range addrs {
			f(a, host)
		}
	}
}

// has tells whether a is one of the service's addresses. A nil service has none.
func (s *service) has(a netip.Addr) bool {
	if s == nil {
		return false
	}
	for _, own := range s.Addrs {
		if own == a {
			return true
		}
	}
	return false
}
