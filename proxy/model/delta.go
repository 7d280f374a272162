package model

import (
	"fmt"
	"slices"
	"strings"
)

// Verb is what an operation does.
type Verb uint8

// The verbs. A service is added without backends, which follow, and removed with all it has.
const (
	AddService Verb = iota
	UpdateService
	RemoveService
	AddBackend
	RemoveBackend
)

// String is the verb as operations print it.
func (v Verb) String() string {
	return [...]string{"add-service", "update-service", "remove-service", "add-backend", "remove-backend"}[v]
}

// Op is one operation on a kernel. Attributes matter to AddService and UpdateService, Backend to AddBackend and RemoveBackend.
type Op struct {
	Verb     Verb
	Frontend Frontend
	// Name is the service's, for people; it is empty where only a kernel knew the service.
	Name       string
	Attributes Attributes
	Backend    Backend
}

// String is the operation as a person reads it, and as golden tests keep it.
func (o Op) String() string {
	s := o.Verb.String() + " " + o.Frontend.String()
	if o.Name != "" {
		s += " " + o.Name
	}
	switch o.Verb {
	case AddService, UpdateService:
		s += fmt.Sprintf(" masquerade=%s empty=%s", o.Attributes.Masquerade, o.Attributes.Empty)
		if o.Attributes.Affinity > 0 {
			s += " affinity=" + o.Attributes.Affinity.String()
		}
	case AddBackend, RemoveBackend:
		s += " " + o.Backend.String()
	}
	return s
}

// Delta is an ordered list of operations: what is new comes before what goes, so that a kernel without transactions never
// serves less than before or after.
type Delta []Op

// String is one line an operation.
func (d Delta) String() string {
	var b strings.Builder
	for _, o := range d {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Count is the number of operations of a verb.
func (d Delta) Count(v Verb) int {
	n := 0
	for _, o := range d {
		if o.Verb == v {
			n++
		}
	}
	return n
}

// Diff returns the operations that make have equal to want: services and backends that are added or changed, in the order of
// their frontends, then services that go.
func Diff(have, want State) Delta {
	var d Delta
	for _, f := range want.Frontends() {
		h, ok := have[f]
		d = append(d, diffService(h, ok, want[f])...)
	}
	for _, f := range have.Frontends() {
		if _, ok := want[f]; !ok {
			d = append(d, Op{Verb: RemoveService, Frontend: f, Name: have[f].Name})
		}
	}
	return d
}

// diffService is Diff for one service that is wanted; exists tells whether have is in the kernel.
func diffService(have Service, exists bool, want Service) Delta {
	var d Delta
	op := Op{Frontend: want.Frontend, Name: want.Name, Attributes: want.Attributes}
	switch {
	case !exists:
		op.Verb = AddService
		d = append(d, op)
	case have.Attributes != want.Attributes:
		op.Verb = UpdateService
		d = append(d, op)
	}
	gone, come := compare(have.Backends, want.Backends)
	op.Attributes = Attributes{}
	for _, b := range come {
		op.Verb, op.Backend = AddBackend, b
		d = append(d, op)
	}
	for _, b := range gone {
		op.Verb, op.Backend = RemoveBackend, b
		d = append(d, op)
	}
	return d
}

// compare walks two ordered lists and returns what only the first and what only the second has.
func compare(a, b []Backend) (onlyA, onlyB []Backend) {
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Compare(b[0]); {
		case c < 0:
			onlyA, a = append(onlyA, a[0]), a[1:]
		case c > 0:
			onlyB, b = append(onlyB, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return append(onlyA, a...), append(onlyB, b...)
}

// Apply does one operation on s, as a kernel would. It fails, and changes nothing, where a kernel would: a service or backend
// that exists already or does not exist. Services of s are replaced, never changed in place, so that copies of s stay as they were.
func (s State) Apply(o Op) error {
	svc, ok := s[o.Frontend]
	if ok == (o.Verb == AddService) {
		return fmt.Errorf("%s: the service exists: %t", o, ok)
	}
	at, has := slices.BinarySearchFunc(svc.Backends, o.Backend, Backend.Compare)
	switch o.Verb {
	case AddService:
		svc = Service{Frontend: o.Frontend, Name: o.Name, Attributes: o.Attributes}
	case UpdateService:
		svc.Attributes = o.Attributes
	case RemoveService:
		delete(s, o.Frontend)
		return nil
	case AddBackend:
		if has {
			return fmt.Errorf("%s: the backend exists", o)
		}
		svc.Backends = slices.Insert(slices.Clone(svc.Backends), at, o.Backend)
	case RemoveBackend:
		if !has {
			return fmt.Errorf("%s: there is no such backend", o)
		}
		svc.Backends = slices.Delete(slices.Clone(svc.Backends), at, at+1)
	}
	s[o.Frontend] = svc
	return nil
}
