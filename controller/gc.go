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
// one in another namespace counts as absent, as in Kubernetes. Of an owner that cannot be looked for nothing is known: who names one is left alone.
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
		emitGoingOwners(v, ch.Old, emit)
		return
	}
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) > 0 {
		emit(ch.Key)
	}
	if ch.Old != nil && sameOwners(ch.Old, o) {
		return
	}
	if ch.Old != nil {
		emitGoingOwners(v, ch.Old, emit) // who waits for o may wait no longer
	}
	emitGoingOwners(v, o, emit)
	if o.GetDeletionTimestamp() == nil && slices.ContainsFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
		_, state := ownerOf(v, o, ref)
		return state == absent
	}) {
		emit(ch.Key)
	}
}

// emitGoingOwners emits the owners of o whose deletion has begun.
func emitGoingOwners(v View, o object.Object, emit func(object.Key)) {
	for _, ref := range o.GetOwnerReferences() {
		if owner, state := ownerOf(v, o, ref); state == present && owner.GetDeletionTimestamp() != nil {
			emit(object.KeyOf(owner))
		}
	}
}

// sameOwners tells whether two states of an object have the same owners, and of these the same ones wait for it.
func sameOwners(a, b object.Object) bool {
	return slices.EqualFunc(a.GetOwnerReferences(), b.GetOwnerReferences(), func(x, y metav1.OwnerReference) bool {
		return x.UID == y.UID && blocks(x) == blocks(y)
	})
}

// blocks tells whether the owner of a reference, deleted in the foreground, waits for who has it.
func blocks(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

type presence int

const (
	absent presence = iota
	present
	// unknown is an owner of a kind that we do not know, and one of a namespace that something outside of all names: no name says which one.
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
		if key.Namespace == "" {
			return nil, unknown
		}
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
	lasting, waited, known := owners(v, o)
	switch refs := o.GetOwnerReferences(); {
	case !known || len(lasting) == len(refs):
		return Result{}, nil
	case len(lasting) > 0 || staysWithoutOwner(o):
		return Result{Put: []object.Object{withOwners(o, lasting)}}, nil
	case waited:
		return Result{Delete: []Deletion{{Key: key, DeleteOptions: DeleteOptions{PropagationPolicy: foregroundIfOwner(v, o)}}}}, nil
	}
	return Result{Delete: []Deletion{{Key: key}}}, nil
}

// owners returns the references to owners that stay, and whether there are others that wait for o to go first. What is left has lost its owner. known is false
// if one of them cannot be looked for.
func owners(v View, o object.Object) (lasting []metav1.OwnerReference, waited, known bool) {
	known = true
	for _, ref := range o.GetOwnerReferences() {
		switch owner, state := ownerOf(v, o, ref); {
		case state == unknown:
			known = false
		case state == present && owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
			waited = true
		case state != absent:
			lasting = append(lasting, ref)
		}
	}
	return lasting, waited, known
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
			lasting, _, known := owners(v, child)
			if known && (len(lasting) > 0 || staysWithoutOwner(child)) {
				res.Put = append(res.Put, withOwners(child, lasting))
				continue
			}
			deletes = known
		}
		if deletes && closesCircle(v, child) {
			res.Put = append(res.Put, unblocking(child))
		} else {
			blocked = blocked || waitsFor(v, o, child)
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

// waitsFor tells whether an owner that is deleted in the foreground waits for a child: if a reference of the child leads to it and says so. One that has its UID and
// leads elsewhere, from another namespace or by another name, is none of its own.
func waitsFor(v View, o, child object.Object) bool {
	return slices.ContainsFunc(child.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
		if ref.UID != o.GetUID() || !blocks(ref) {
			return false
		}
		_, state := ownerOf(v, child, ref)
		return state == present
	})
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
		if blocks(refs[i]) {
			refs[i].BlockOwnerDeletion = &no
		}
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
	last := withoutFinalizer(o, metav1.FinalizerOrphanDependents)
	for child := range v.Owned(o.GetUID()) {
		c := last // it may own itself
		if child.GetUID() != o.GetUID() {
			c = object.Copy(child)
			res.Put = append(res.Put, c)
		}
		c.SetOwnerReferences(slices.DeleteFunc(slices.Clone(c.GetOwnerReferences()), func(r metav1.OwnerReference) bool { return r.UID == o.GetUID() }))
	}
	res.Put = append(res.Put, last)
	return res
}

func withoutFinalizer(o object.Object, name string) object.Object {
	c := object.Copy(o)
	c.SetFinalizers(slices.DeleteFunc(c.GetFinalizers(), func(f string) bool { return f == name }))
	return c
}
