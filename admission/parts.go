package admission

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"

	"reconcile/object"
)

// Every kind with a status has a Go struct with a field Status beside Spec: what is the same for all of them is done on those fields.

// equal compares as Kubernetes does: quantities by value, nil as empty.
func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// part is a field of an object's struct; invalid if its kind has none of that name.
func part(o object.Object, name string) reflect.Value {
	return reflect.ValueOf(o).Elem().FieldByName(name)
}

// specChanged tells whether the specifications differ. Kinds without one never change theirs.
func specChanged(o, old object.Object) bool {
	a, b := part(o, "Spec"), part(old, "Spec")
	return a.IsValid() && b.IsValid() && !equal(a.Interface(), b.Interface())
}

// setStatus gives o the status of from, or an empty one if that is nil.
func setStatus(o, from object.Object) {
	to := part(o, "Status")
	switch {
	case !to.IsValid():
	case from == nil:
		to.SetZero()
	default:
		to.Set(part(from, "Status"))
	}
}

// shallow copies the struct: maps and slices are shared.
func shallow(o object.Object) object.Object {
	c := reflect.New(reflect.TypeOf(o).Elem())
	c.Elem().Set(reflect.ValueOf(o).Elem())
	return c.Interface().(object.Object)
}

// assign makes o what from is, sharing its memory.
func assign(o, from object.Object) { reflect.ValueOf(o).Elem().Set(reflect.ValueOf(from).Elem()) }
