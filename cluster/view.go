package cluster

import (
	"fmt"
	"iter"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
	"reconcile/raftstore"
)

// Reader is what a View and an Overlay have in common; controller.View declares the same. Objects are shared: copy before changing
// one. Sequences come in the order of the keys' paths.
type Reader interface {
	Rev() uint64
	Get(object.Key) (object.Object, bool)
	List(resource, namespace string) iter.Seq[object.Object]
	Owned(owner types.UID) iter.Seq[object.Object]
	PodsOn(node string) iter.Seq[*corev1.Pod]
	Orphans(resource, namespace string) iter.Seq[object.Object]
	Unbound() iter.Seq[*corev1.Pod]
	Alike(namespace string, owner types.UID) iter.Seq[object.Alike]
	Indexed(object.Row) iter.Seq[object.Object]
	CountNodes(object.Row) int
}

// View shows a state of the store as objects. It is immutable, cheap to make, and pins what it shows: do not keep one longer than a
// request. Any number of goroutines may read it.
type View struct{ v *raftstore.View }

// NewView shows v. The store must have been opened with Index as its index function.
func NewView(v *raftstore.View) *View { return &View{v: v} }

// Rev is the revision that the view shows: the last one of a whole entry.
func (v *View) Rev() uint64 { return v.v.Rev() }

// Raw is the state as the store has it: for keys outside /registry, such as git's refs.
func (v *View) Raw() *raftstore.View { return v.v }

// Get returns one object.
func (v *View) Get(k object.Key) (object.Object, bool) {
	r, ok := v.v.Get(k.Path())
	if !ok {
		return nil, false
	}
	o, ok := Object(r)
	return v.renewed(r.Key, o), ok
}

// renewed is o, or if o is a lease that was renewed since it was written, that lease as it is now: renewals are no versions of their own
// (raftstore.Touched). It keeps its resourceVersion.
func (v *View) renewed(key string, o object.Object) object.Object {
	l, ok := o.(*coordinationv1.Lease)
	if !ok {
		return o
	}
	at, ok := v.v.Touched(key)
	if !ok || l.Spec.RenewTime != nil && !l.Spec.RenewTime.Time.Before(at) {
		return o
	}
	next := *l // a flat copy will do: only the pointer is replaced
	now := metav1.NewMicroTime(at)
	next.Spec.RenewTime = &now
	return &next
}

// List yields the objects of a resource, in one namespace, or in all if namespace is empty.
func (v *View) List(resource, namespace string) iter.Seq[object.Object] {
	return v.objects(v.v.Range(object.PathPrefix(resource, namespace)))
}

// ListStored is ListFrom with the bytes that each object is stored as, nil for one that is shown otherwise than it is stored. The bytes are shared. An empty start
// is the first.
func (v *View) ListStored(resource, namespace, start string) iter.Seq2[object.Object, []byte] {
	return func(yield func(object.Object, []byte) bool) {
		for r := range v.v.RangeFrom(object.PathPrefix(resource, namespace), start) {
			o, ok := Object(r)
			if !ok {
				continue
			}
			shown, value := v.renewed(r.Key, o), r.Value
			if shown != o {
				value = nil
			}
			if !yield(shown, value) {
				return
			}
		}
	}
}

// ListFrom is List from the first key whose path is not before start: for pages.
func (v *View) ListFrom(resource, namespace, start string) iter.Seq[object.Object] {
	return v.objects(v.v.RangeFrom(object.PathPrefix(resource, namespace), start))
}

// Owned yields the objects whose metadata.ownerReferences name the UID, of every resource.
func (v *View) Owned(owner types.UID) iter.Seq[object.Object] {
	return v.objects(v.v.Indexed(ownerPrefix(owner)))
}

// PodsOn yields the pods whose spec.nodeName is node.
func (v *View) PodsOn(node string) iter.Seq[*corev1.Pod] { return pods(v.v.Indexed(nodePrefix(node))) }

// Unbound yields the pods that have no node, and neither are terminating nor have ended.
func (v *View) Unbound() iter.Seq[*corev1.Pod] { return pods(v.v.Indexed(unboundPrefix)) }

// Alike yields the sorts of a namespace's pods, or of those of them that owner controls if it is not empty. What it costs follows from the number of
// sorts: an owner has one or two but where its pods come and go.
func (v *View) Alike(namespace string, owner types.UID) iter.Seq[object.Alike] {
	return func(yield func(object.Alike) bool) {
		for t := range v.v.Tally(sortRows + object.SortsOf(namespace, owner)) {
			if o, ok := Object(t.Example); ok {
				if p, ok := o.(*corev1.Pod); ok && !yield(object.Alike{Sort: t.Row[len(sortRows):], Example: p, Pods: t.N}) {
					return
				}
			}
		}
	}
}

// Indexed yields the objects that are in a row.
func (v *View) Indexed(row object.Row) iter.Seq[object.Object] {
	return v.objects(v.v.Indexed(rowPrefix(row)))
}

// CountNodes is how many nodes are in a row that is counted, which it tells without a look at each.
func (v *View) CountNodes(row object.Row) (n int) {
	for t := range v.v.Tally(countPrefix(row)) {
		n += t.N
	}
	return n
}

// Orphans yields the pods or ReplicaSets of a namespace that no owner controls.
func (v *View) Orphans(resource, namespace string) iter.Seq[object.Object] {
	return v.objects(v.v.Indexed(orphanPrefix(resource, namespace)))
}

// FromSource yields the objects that carry the mark of a source of git (object.AnnotationSource), of every resource.
func (v *View) FromSource(source string) iter.Seq[object.Object] {
	return v.objects(v.v.Indexed(sourcePrefix(source)))
}

func (v *View) objects(records iter.Seq[*raftstore.Record]) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for r := range records {
			if o, ok := Object(r); ok && !yield(v.renewed(r.Key, o)) {
				return
			}
		}
	}
}

func pods(records iter.Seq[*raftstore.Record]) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for r := range records {
			if o, ok := Object(r); ok {
				if p, ok := o.(*corev1.Pod); ok && !yield(p) {
					return
				}
			}
		}
	}
}

// Object is the object that a record holds, decoded the first time anybody asks. False if the record holds none: its key is
// outside /registry, or its value cannot be read (Problem tells why).
func Object(r *raftstore.Record) (object.Object, bool) {
	o, ok := r.Decoded(decode).(object.Object)
	return o, ok
}

// Problem tells why a record under /registry holds no object, or nil.
func Problem(r *raftstore.Record) error {
	err, _ := r.Decoded(decode).(error)
	return err
}

// decode gives an object.Object or an error.
func decode(r *raftstore.Record) any {
	k, err := object.ParsePath(r.Key)
	if err != nil {
		return err
	}
	o, err := object.Decode(r.Value)
	if err != nil {
		return fmt.Errorf("read the stored %s at revision %d: %w", k, r.ModRev, err)
	}
	return o
}

// The rows of the index: "o/UID/PATH" for each owner of an object, "c/RESOURCE/NAMESPACE/PATH" for a pod or ReplicaSet that nothing
// controls, "n/NODE/PATH" for a bound pod, "u/PATH" for an unbound one, and
// "s/SOURCE/PATH" for an object from git, of which an overlay keeps none: nobody asks it; "r/ROW/PATH" are object.Rows. "#a/SORT" and
// "#b/ROW/" are counted: the pods by sort, and the nodes in a row.
const (
	unboundPrefix = "u/"
	sortRows      = raftstore.Counted + "a/"
	countRows     = raftstore.Counted + "b/"
)

func rowPrefix(row object.Row) string   { return "r/" + string(row) + "/" }
func countPrefix(row object.Row) string { return countRows + string(row) + "/" }

func ownerPrefix(uid types.UID) string { return "o/" + string(uid) + "/" }
func nodePrefix(node string) string    { return "n/" + node + "/" }
func orphanPrefix(resource, namespace string) string {
	return "c/" + resource + "/" + namespace + "/"
}
func sourcePrefix(source string) string { return "s/" + source + "/" }

// Index gives a record's rows; it is raftstore.Config.Index.
func Index(r *raftstore.Record) []string {
	if !strings.HasPrefix(r.Key, "/registry/") {
		return nil
	}
	o, ok := Object(r)
	if !ok {
		return nil
	}
	rows := indexPrefixes(o)
	if source, ok := o.GetAnnotations()[object.AnnotationSource]; ok {
		rows = append(rows, sourcePrefix(source))
	}
	for i := range rows {
		rows[i] += r.Key
	}
	if p, ok := o.(*corev1.Pod); ok {
		rows = append(rows, sortRows+object.SortOf(p))
	}
	if n, ok := o.(*corev1.Node); ok {
		for _, row := range object.Rows(n) {
			if row.Counted() {
				rows = append(rows, countPrefix(row))
			}
		}
	}
	return rows
}

// indexPrefixes are the prefixes of an object's rows.
func indexPrefixes(o object.Object) []string {
	var rows []string
	for _, ref := range o.GetOwnerReferences() {
		rows = append(rows, ownerPrefix(ref.UID))
	}
	for _, row := range object.Rows(o) {
		rows = append(rows, rowPrefix(row))
	}
	p, ok := o.(*corev1.Pod)
	if _, set := o.(*appsv1.ReplicaSet); (ok || set) && metav1.GetControllerOfNoCopy(o) == nil {
		rows = append(rows, orphanPrefix(object.KeyOf(o).Resource, o.GetNamespace()))
	}
	switch {
	case !ok:
	case p.Spec.NodeName != "":
		rows = append(rows, nodePrefix(p.Spec.NodeName))
	case p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed:
		rows = append(rows, unboundPrefix)
	}
	return rows
}
