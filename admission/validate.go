package admission

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/object"
)

// Validate returns all faults of an object, as Kubernetes' own validation finds and words them: of a creation if old is nil, of
// an update else. o must have been defaulted. Neither is changed. Kinds without rules (our own, which only our code writes) pass.
func Validate(o, old object.Object) field.ErrorList {
	r, _ := rulesFor(o)
	return validateWith(o, old, r)
}

// ValidateStatus returns the faults of an update of the status subresource.
func ValidateStatus(o, old object.Object) field.ErrorList {
	r, _ := rulesFor(o)
	if r.status != nil {
		r.update = r.status
	}
	return validateWith(o, old, r)
}

func validateWith(o, old object.Object, r rules) field.ErrorList {
	if old == nil && r.create == nil || old != nil && r.update == nil {
		return nil
	}
	if old == nil && r.begin != nil && o.GetUID() == "" {
		// A file's object has not begun: what only a creation fills in is judged too.
		o = object.Copy(o)
		o.SetUID("00000000-0000-0000-0000-000000000000")
		r.begin(o, time.Unix(0, 0))
	}
	in, err := toInternal(o)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	if old == nil {
		return r.create(in)
	}
	was, err := toInternal(old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	unconditional(in, was)
	return r.update(in, was)
}

// Warnings tells what is allowed and unwise in an object, in Kubernetes' words; old is nil for a creation.
func Warnings(o, old object.Object) []string {
	r, _ := rulesFor(o)
	if r.warn == nil {
		return nil
	}
	in, err := toInternal(o)
	if err != nil {
		return nil
	}
	if old == nil {
		return r.warn(in, nil)
	}
	was, err := toInternal(old)
	if err != nil {
		return nil
	}
	return r.warn(in, was)
}

// unconditional gives an update that names no version the version of what it replaces, as the API server does: validation
// wants one. Both are our own conversions.
func unconditional(in, was runtime.Object) {
	n, err := meta.Accessor(in)
	if err != nil || n.GetResourceVersion() != "" {
		return
	}
	version := "1"
	if o, err := meta.Accessor(was); err == nil && o.GetResourceVersion() != "" {
		version = o.GetResourceVersion()
	}
	n.SetResourceVersion(version)
}
