package api

import (
	"k8s.io/apimachinery/pkg/fields"

	"reconcile/object"
)

// fieldsOf returns how to read the fields that a field selector may name for a kind, and their names.
func fieldsOf(k object.Kind) (func(object.Object) fields.Set, map[string]bool) {
	read := func(o object.Object) fields.Set {
		set := fields.Set{"metadata.name": o.GetName()}
		if k.Namespaced {
			set["metadata.namespace"] = o.GetNamespace()
		}
		if k.Selectable != nil {
			k.Selectable(o, set)
		}
		return set
	}
	known := map[string]bool{}
	for name := range read(k.Stored().New()) {
		known[name] = true
	}
	return read, known
}
