package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// garbage follows ownerReferences: what has lost all its owners is deleted, an owner that is deleted in the foreground waits
// for its dependents, and one that orphans them lets go of them first. An owner is known by UID, never by name alone, and
// one in another namespace counts as absent, as in Kubernetes. An owner of a kind that we do not know counts as present.
type garbage struct{}

func (garbage) Name() string { return "garbagecollector" }

func (garbage) Watches() []string {
	var out []string
	for _, k := range object.Kinds() {
		if k.Resource != "events" {
			out = append(out, k.Resource)
		}
	}
	return out
}

func (garbage) Keys(v View, ch Change, emit func(object.Key)) {
	o := ch.New
	if o == nil {
		for child := range v.Owned(ch.Old.GetUID()) {
			emit(object.KeyOf(child))
		}
		for _, ref := range ch.Old.GetOwnerReferences() {
			if owner, state := ownerOf(v, ch.Old, ref); state == present && owner.GetDeletionTimestamp() != nil {
				emit(object.KeyOf(owner))
			}
		}
		return
	}
	if o.GetDeletionTimestamp() != nil {
		if len(o.GetFinalizers()) > 0 {
			emit(ch.Key)
		}
		return
	}
	if ch.Old != nil && sameOwners(ch.Old, o) {
		return
	}
	for _, ref := range o.GetOwnerReferences() {
		owner, state := ownerOf(v, o, ref)
		if state == absent {
			emit(ch.Key)
		} else if state == present && owner.GetDeletionTimestamp() != nil {
			emit(object.KeyOf(owner))
		}
	}
}

func sameOwners(a, b object.Object) bool {
	return slices.EqualFunc(a.GetOwnerReferences(), b.GetOwnerReferences(), func(x, y metav1.OwnerReference) bool { return x.UID == y.UID })
}

type presence int

const (
	absent presence = iota
	present
	unknown
)

func ownerOf(v View, o object.Object, ref metav1.OwnerReference) (object.Object, presence) {
	k, ok := object.KindOf(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind))
	if !ok {
		return nil, unknown
	}
	key := object.Key{Resource: k.Resource, Name: ref.Name}
	if k.Namespaced {
		key.Namespace = o.GetNamespace()
	}
	owner, ok := v.Get(key)
	if !ok || owner.GetUID() != ref.UID {
		return nil, absent
	}
	return owner, present
}

func (garbage) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	if o.GetDeletionTimestamp() != nil {
		switch f := o.GetFinalizers(); {
		case slices.Contains(f, metav1.FinalizerOrphanDependents):
			return orphan(v, o), nil
		case slices.Contains(f, metav1.FinalizerDeleteDependents):
			return foreground(v, o), nil
		}
		return Result{}, nil
	}
	lasting, waited := owners(v, o)
	switch refs := o.GetOwnerReferences(); {
	case len(lasting) == len(refs):
		return Result{}, nil
	case len(lasting) > 0 || staysWithoutOwner(o):
		return Result{Put: []object.Object{withOwners(o, lasting)}}, nil
	case waited:
		return Result{Delete: []Deletion{{Key: key, DeleteOptions: DeleteOptions{PropagationPolicy: foregroundIfOwner(v, o)}}}}, nil
	}
	return Result{Delete: []Deletion{{Key: key}}}, nil
}

// owners returns the references to owners that stay, and whether there are others that wait for o to go first. What is left has lost its owner.
func owners(v View, o object.Object) (lasting []metav1.OwnerReference, waited bool) {
	for _, ref := range o.GetOwnerReferences() {
		switch owner, state := ownerOf(v, o, ref); {
		case state == present && owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
			waited = true
		case state != absent:
			lasting = append(lasting, ref)
		}
	}
	return lasting, waited
}

// staysWithoutOwner tells that o is let go of where others are deleted, as nobody may delete it: git declares it, or it is a namespace that a cluster cannot
// be without. Whoever may write an ownerReference has no more rights by it.
func staysWithoutOwner(o object.Object) bool {
	_, ofGit := o.GetAnnotations()[object.AnnotationSource]
	ns, isNamespace := o.(*corev1.Namespace)
	return ofGit || isNamespace && slices.Contains(preset, ns.Name)
}

func withOwners(o object.Object, refs []metav1.OwnerReference) object.Object {
	c := object.Copy(o)
	c.SetOwnerReferences(refs)
	return c
}

// foreground deletes what has no other owner that stays; the rest is let go of, and o does not wait for it.
func foreground(v View, o object.Object) Result {
	var res Result
	blocked := false
	for child := range v.Owned(o.GetUID()) {
		deletes := child.GetDeletionTimestamp() == nil
		if deletes {
			if lasting, _ := owners(v, child); len(lasting) > 0 || staysWithoutOwner(child) {
				res.Put = append(res.Put, withOwners(child, lasting))
				continue
			}
		}
		if deletes && closesCircle(v, child) {
			res.Put = append(res.Put, unblocking(child))
		} else {
			for _, ref := range child.GetOwnerReferences() {
				blocked = blocked || ref.UID == o.GetUID() && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
			}
		}
		if deletes {
			res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(child), DeleteOptions: DeleteOptions{PropagationPolicy: foregroundIfOwner(v, child)}})
		}
	}
	if !blocked {
		res.Put = append(res.Put, withoutFinalizer(o, metav1.FinalizerDeleteDependents))
	}
	return res
}

// closesCircle tells whether something that the child owns waits itself for its dependents: then they may wait for each other, as far as can be
// seen from here, and the child's owner does not wait for it, as in Kubernetes.
func closesCircle(v View, child object.Object) bool {
	for grandchild := range v.Owned(child.GetUID()) {
		if grandchild.GetDeletionTimestamp() != nil && slices.Contains(grandchild.GetFinalizers(), metav1.FinalizerDeleteDependents) {
			return true
		}
	}
	return false
}

// unblocking is a copy whose owners do not wait for it.
func unblocking(o object.Object) object.Object {
	c := object.Copy(o)
	refs, no := slices.Clone(c.GetOwnerReferences()), false
	for i := range refs {
		refs[i].BlockOwnerDeletion = &no
	}
	c.SetOwnerReferences(refs)
	return c
}

// foregroundIfOwner carries the foreground deletion on to children that have children.
func foregroundIfOwner(v View, child object.Object) string {
	for range v.Owned(child.GetUID()) {
		return string(metav1.DeletePropagationForeground)
	}
	return ""
}

func orphan(v View, o object.Object) Result {
	var res Result
	for child := range v.Owned(o.GetUID()) {
		c := object.Copy(child)
		c.SetOwnerReferences(slices.DeleteFunc(c.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == o.GetUID() }))
		res.Put = append(res.Put, c)
	}
	res.Put = append(res.Put, withoutFinalizer(o, metav1.FinalizerOrphanDependents))
	return res
}

func withoutFinalizer(o object.Object, name string) object.Object {
	c := object.Copy(o)
	c.SetFinalizers(slices.DeleteFunc(c.GetFinalizers(), func(f string) bool { return f == name }))
	return c
}
