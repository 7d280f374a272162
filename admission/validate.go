package admission

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/capabilities"

	"reconcile/object"
)

// Validate returns all faults of an object, as Kubernetes' own validation finds and words them: of a creation if old is nil, of
// an update else. o must have been defaulted. Neither is changed. Kinds without rules (our own, which only our code writes) pass.
func Validate(o, old object.Object) field.ErrorList {
	r, _ := rulesFor(o)
	return validateWith(o, old, r)
}

// ValidateAs is Validate for what came in the version k of the kind, where a version has rules of its own.
func ValidateAs(k object.Kind, o, old object.Object) field.ErrorList {
	r, ok := versionRules[k.GVK]
	if !ok {
		return Validate(o, old)
	}
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

// allowPrivileged lets pods have privileged containers: validation forbids them otherwise, for the whole process. Who may make such pods is for rights
// to say.
var allowPrivileged = sync.OnceFunc(func() { capabilities.Setup(true, 0) })

func validateWith(o, old object.Object, r rules) field.ErrorList {
	allowPrivileged()
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
	faults := r.update(in, was)
	return append(untold(metaFaults(in, was), faults), faults...)
}

// metaFaults are what is wrong with a change of the metadata, whatever the kind: Kubernetes asks it of all, and the validation of most kinds asks it again.
func metaFaults(in, was runtime.Object) field.ErrorList {
	n, err := meta.Accessor(in)
	if err != nil {
		return field.ErrorList{field.InternalError(field.NewPath("metadata"), err)}
	}
	old, err := meta.Accessor(was)
	if err != nil {
		return field.ErrorList{field.InternalError(field.NewPath("metadata"), err)}
	}
	return apivalidation.ValidateObjectMetaAccessorUpdate(n, old, field.NewPath("metadata"))
}

// untold are the faults that others do not name.
func untold(faults, others field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(faults, func(f *field.Error) bool {
		return slices.ContainsFunc(others, func(o *field.Error) bool { return o.Field == f.Field && o.Detail == f.Detail })
	})
}

// ValidateKept returns the faults of a replacement that sets what only the server sets: PrepareUpdate would take it away silently. What is already
// being deleted keeps its times, whatever the replacement says.
func ValidateKept(o, old object.Object) field.ErrorList {
	meta := field.NewPath("metadata")
	var faults field.ErrorList
	if uid := o.GetUID(); uid != "" {
		faults = append(faults, apivalidation.ValidateImmutableField(uid, old.GetUID(), meta.Child("uid"))...)
	}
	if old.GetDeletionTimestamp() == nil {
		faults = append(faults, apivalidation.ValidateImmutableField(o.GetDeletionTimestamp(), old.GetDeletionTimestamp(), meta.Child("deletionTimestamp"))...)
		faults = append(faults, apivalidation.ValidateImmutableField(o.GetDeletionGracePeriodSeconds(), old.GetDeletionGracePeriodSeconds(), meta.Child("deletionGracePeriodSeconds"))...)
	}
	return faults
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
