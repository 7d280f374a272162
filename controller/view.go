package controller

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
	"reconcile/scheduler"
)

// View is a consistent, immutable state of all objects. Objects that it returns are shared: copy before changing one.
// Sequences come in the order of keys (namespace, then name).
type View interface {
	// Rev is the revision that the view shows: the last one of a whole entry.
	Rev() uint64
	// Get returns one object.
	Get(object.Key) (object.Object, bool)
	// List yields the objects of a resource, in one namespace, or in all if namespace is empty.
	List(resource, namespace string) iter.Seq[object.Object]
	// Owned yields the objects whose metadata.ownerReferences name the UID, of every resource.
	Owned(owner types.UID) iter.Seq[object.Object]
	// Alike yields the sorts of a namespace's pods, or of those of them that owner controls if it is not empty. It costs no look at each pod.
	Alike(namespace string, owner types.UID) iter.Seq[object.Alike]
	// Indexed yields the objects that are in a row.
	Indexed(object.Row) iter.Seq[object.Object]
	// CountNodes is how many nodes are in a row of which object.Row.Counted tells that it is counted. It costs no look at each.
	CountNodes(object.Row) int
	// PodsOn yields the pods whose spec.nodeName is node.
	PodsOn(node string) iter.Seq[*corev1.Pod]
	// Orphans yields the pods or ReplicaSets of a namespace that no owner controls.
	Orphans(resource, namespace string) iter.Seq[object.Object]
	// Unbound yields the pods that have no node, and neither are terminating nor have ended.
	Unbound() iter.Seq[*corev1.Pod]
}

// Overlay is a View over a base view with writes of its own on top, which its reads see at once. It has one user at a time.
type Overlay interface {
	View
	// Put stores an object under its key. The overlay keeps o: the caller must not change it afterwards.
	Put(o object.Object)
	// Delete removes an object; it is no error if there is none.
	Delete(object.Key)
}

// remover is an Overlay that knows what it takes away from its base. Settle makes no new object under the key of one that the same
// entry removes: watchers would see one object change into another, and a node two pods as one. The run that wants it waits for the
// next Settle.
type remover interface {
	// Removed tells whether the base has an object under the key which the overlay removes.
	Removed(object.Key) bool
}

// snapshotKeeper is a View whose maker keeps the scheduler's snapshot from one Settle to the next. It is as if it was just made of what the
// view shows at the moment; scheduling is as quick as that can be told.
type snapshotKeeper interface {
	// Snapshot lends it, until done is called, for the profiles of the view, which may name extensions. The error is of profiles that cannot be read, which are
	// left out.
	Snapshot([]*scheduler.Extension) (s *scheduler.Snapshot, done func(), fault error)
}

// statusKeeper is an Overlay that knows which objects' statuses a client has written by their subresource. They are committed as they were written, so
// that the client's answer and watchers show them; the run of a controller that wants such a status otherwise waits for the next Settle.
type statusKeeper interface {
	// KeepsStatus tells whether this entry is to keep the status under the key as it is.
	KeepsStatus(object.Key) bool
}

// Change is what happened to one object. Old is nil for a creation, New for a deletion.
type Change struct {
	Key      object.Key
	Old, New object.Object
}
