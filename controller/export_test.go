package controller

import (
	"time"

	"reconcile/object"
)

// CountRuns counts the runs of a controller of the set from now on.
func CountRuns(s *Set, name string) *int {
	n, i := new(int), s.byName[name]
	s.controllers[i] = counted{s.controllers[i], n}
	return n
}

type counted struct {
	Controller
	n *int
}

func (c counted) Reconcile(v View, k object.Key, now time.Time) (Result, error) {
	*c.n++
	return c.Controller.Reconcile(v, k, now)
}

func (c counted) final(resource string) bool {
	f, ok := c.Controller.(finisher)
	return ok && f.final(resource)
}

func (c counted) fold(k object.Key) (object.Key, bool) {
	if f, ok := c.Controller.(folder); ok {
		return f.fold(k)
	}
	return k, false
}

// NamedController is one of those that need no configuration.
func NamedController(name string) Controller {
	for _, c := range standard(Config{}) {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// ClaimInScopes is claimInScopes for the tests.
var ClaimInScopes = claimInScopes
