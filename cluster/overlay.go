package cluster

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// Change is what happened to one object. Old is nil for a creation, New for a deletion. controller.Change has the same fields.
type Change struct {
	Key      object.Key
	Old, New object.Object
}

// Overlay is a Reader over a base with writes of its own on top, which its reads see at once. It has one user at a time. What it
// costs follows from the number of its writes, not from the size of the base. It satisfies controller.Overlay.
type Overlay struct {
	base Reader
	rows *btree.BTreeG[layer]
	// index holds the same rows under "PREFIX PATH" as the store's index does.
	index *btree.BTreeG[layer]
	// names are the names of all written keys: most objects of the base are told apart from them without making a path.
	names map[string]struct{}
	// sorts are the sorts of pods by their counted rows, with how many more there are than in the base.
	sorts *btree.BTreeG[sort]
	// kept are the keys whose statuses stay as they were written.
	kept map[object.Key]struct{}
}

// layer is one written key: its new object, or nil for a deletion.
type layer struct {
	path string
	key  object.Key
	obj  object.Object
}

// sort is a counted row: one of its pods, and how many more there are than in the base.
type sort struct {
	row   string
	alike object.Alike
	more  int
}

func newSorts() *btree.BTreeG[sort] {
	return btree.NewG(8, func(a, b sort) bool { return a.row < b.row })
}

func newLayers() *btree.BTreeG[layer] {
	return btree.NewG(16, func(a, b layer) bool { return a.path < b.path })
}

// NewOverlay puts an empty overlay on base, which must not change while the overlay is used.
func NewOverlay(base Reader) *Overlay {
	return &Overlay{base: base, rows: newLayers(), index: newLayers(), sorts: newSorts(), names: map[string]struct{}{}}
}

// Rev is the base's revision.
func (o *Overlay) Rev() uint64 { return o.base.Rev() }

// Base is what the overlay stands on.
func (o *Overlay) Base() Reader { return o.base }

// Get returns one object.
func (o *Overlay) Get(k object.Key) (object.Object, bool) {
	if l, ok := o.rows.Get(layer{path: k.Path()}); ok {
		return l.obj, l.obj != nil
	}
	return o.base.Get(k)
}

// Put stores an object under its key. The overlay keeps obj: the caller must not change it afterwards.
func (o *Overlay) Put(obj object.Object) {
	k := object.KeyOf(obj)
	l := layer{path: k.Path(), key: k, obj: obj}
	old, had := o.rows.ReplaceOrInsert(l)
	o.names[k.Name] = struct{}{}
	o.recount(k, old.obj, had, obj)
	prefixes := indexPrefixes(obj)
	if had && old.obj != nil {
		for _, prefix := range indexPrefixes(old.obj) {
			if !slices.Contains(prefixes, prefix) { // the others are replaced: most objects keep their owner
				o.index.Delete(layer{path: prefix + l.path})
			}
		}
	}
	for _, prefix := range prefixes {
		o.index.ReplaceOrInsert(layer{path: prefix + l.path, key: k, obj: obj})
	}
}

// Delete removes an object; it is no error if there is none.
func (o *Overlay) Delete(k object.Key) {
	o.names[k.Name] = struct{}{}
	old, had := o.rows.ReplaceOrInsert(layer{path: k.Path(), key: k})
	if had {
		o.unindex(old)
	}
	o.recount(k, old.obj, had, nil)
}

// recount counts what becomes of a pod: old is what the overlay had of it, if it had anything.
func (o *Overlay) recount(k object.Key, old object.Object, had bool, now object.Object) {
	if k.Resource != "pods" {
		return
	}
	if !had {
		old, _ = o.base.Get(k)
	}
	if old != nil && now != nil && sameSort(old.(*corev1.Pod), now.(*corev1.Pod)) {
		return
	}
	if old != nil {
		o.count(old, -1)
	}
	if now != nil {
		o.count(now, 1)
	}
}

// sameSort tells quickly of two versions of a pod that they are counted alike; it may say no of some that are.
func sameSort(a, b *corev1.Pod) bool {
	x, y := metav1.GetControllerOfNoCopy(a), metav1.GetControllerOfNoCopy(b)
	if x == nil || y == nil || x.UID != y.UID || a.Status.Phase != b.Status.Phase {
		return false
	}
	was, is := object.AlikeOf(a), object.AlikeOf(b)
	return was.Terminating == is.Terminating && was.Ready == is.Ready && maps.Equal(was.Labels, is.Labels)
}

func (o *Overlay) count(obj object.Object, n int) {
	row := alikeRow(obj)
	if row == "" {
		return
	}
	s, had := o.sorts.Get(sort{row: row})
	if !had {
		s = sort{row: row, alike: object.AlikeOf(obj.(*corev1.Pod))}
	}
	s.more += n
	o.sorts.ReplaceOrInsert(s)
}

// Alike yields, of the pods that the owner controls and that have not ended, each sort that there is, and how many are of it.
func (o *Overlay) Alike(owner types.UID) iter.Seq2[object.Alike, int] {
	return func(yield func(object.Alike, int) bool) {
		prefix := alikePrefix(owner)
		more := map[string]sort{}
		o.sorts.AscendGreaterOrEqual(sort{row: prefix}, func(s sort) bool {
			if !strings.HasPrefix(s.row, prefix) {
				return false
			}
			more[s.row] = s
			return true
		})
		for a, n := range o.base.Alike(owner) {
			row := prefix + a.String()
			n += more[row].more
			delete(more, row)
			if n > 0 && !yield(a, n) {
				return
			}
		}
		for _, row := range slices.Sorted(maps.Keys(more)) {
			if s := more[row]; s.more > 0 && !yield(s.alike, s.more) {
				return
			}
		}
	}
}

// Removed tells whether the overlay removes an object that the base has. To put another one under its key would show watchers a change
// of one object into another.
func (o *Overlay) Removed(k object.Key) bool {
	l, written := o.rows.Get(layer{path: k.Path()})
	if !written || l.obj != nil {
		return false
	}
	_, had := o.base.Get(k)
	return had
}

// KeepStatus has controllers leave the status under the key as it is written now: who wants it otherwise writes it in an entry after this one.
func (o *Overlay) KeepStatus(k object.Key) {
	if o.kept == nil {
		o.kept = map[object.Key]struct{}{}
	}
	o.kept[k] = struct{}{}
}

// KeepsStatus tells whether KeepStatus was called for the key.
func (o *Overlay) KeepsStatus(k object.Key) bool {
	_, ok := o.kept[k]
	return ok
}

func (o *Overlay) unindex(l layer) {
	if l.obj == nil {
		return
	}
	for _, prefix := range indexPrefixes(l.obj) {
		o.index.Delete(layer{path: prefix + l.path})
	}
}

// List yields the objects of a resource, in one namespace, or in all if namespace is empty.
func (o *Overlay) List(resource, namespace string) iter.Seq[object.Object] {
	return merge(o, o.base.List(resource, namespace), o.rows, object.PathPrefix(resource, namespace), 0)
}

// Owned yields the objects whose metadata.ownerReferences name the UID, of every resource.
func (o *Overlay) Owned(owner types.UID) iter.Seq[object.Object] {
	prefix := ownerPrefix(owner)
	return merge(o, o.base.Owned(owner), o.index, prefix, len(prefix))
}

// Orphans yields the pods or ReplicaSets of a namespace that no owner controls.
func (o *Overlay) Orphans(resource, namespace string) iter.Seq[object.Object] {
	prefix := orphanPrefix(resource, namespace)
	return merge(o, o.base.Orphans(resource, namespace), o.index, prefix, len(prefix))
}

// PodsOn yields the pods whose spec.nodeName is node.
func (o *Overlay) PodsOn(node string) iter.Seq[*corev1.Pod] {
	prefix := nodePrefix(node)
	return merge(o, o.base.PodsOn(node), o.index, prefix, len(prefix))
}

// Unbound yields the pods that have no node, and neither are terminating nor have ended.
func (o *Overlay) Unbound() iter.Seq[*corev1.Pod] {
	return merge(o, o.base.Unbound(), o.index, unboundPrefix, len(unboundPrefix))
}

// Changes lists what differs from the base, in the order of paths. A key whose object came out as it was is left out.
func (o *Overlay) Changes() []Change {
	var out []Change
	o.rows.Ascend(func(l layer) bool {
		old, had := o.base.Get(l.key)
		switch {
		case !had && l.obj == nil, had && l.obj != nil && (old == l.obj || equality.Semantic.DeepEqual(old, l.obj)):
			return true
		case !had:
			old = nil
		}
		out = append(out, Change{Key: l.key, Old: old, New: l.obj})
		return true
	})
	return out
}

// Written yields the keys that were written, in the order of paths.
func (o *Overlay) Written() iter.Seq[object.Key] {
	return func(yield func(object.Key) bool) {
		o.rows.Ascend(func(l layer) bool { return yield(l.key) })
	}
}

// Len is the number of keys that were written.
func (o *Overlay) Len() int { return o.rows.Len() }

// Apply writes the changes into the overlay, as when what was tried on one overlay is taken over into the one below.
func (o *Overlay) Apply(changes []Change) {
	for _, c := range changes {
		if c.New == nil {
			o.Delete(c.Key)
		} else {
			o.Put(c.New)
		}
	}
}

// merge yields the base's objects that the overlay has not written, and the tree's rows that begin with prefix, in the order of paths.
// The path of a row is what follows its first skip bytes. The rows are taken at the start, so that the loop's body may write.
func merge[T object.Object](o *Overlay, base iter.Seq[T], tree *btree.BTreeG[layer], prefix string, skip int) iter.Seq[T] {
	return func(yield func(T) bool) {
		var own []layer
		tree.AscendGreaterOrEqual(layer{path: prefix}, func(l layer) bool {
			if !strings.HasPrefix(l.path, prefix) {
				return false
			}
			if l.obj != nil {
				own = append(own, l)
			}
			return true
		})
		if o.rows.Len() == 0 {
			base(yield)
			return
		}
		var written *btree.BTreeG[layer]
		for obj := range base {
			if written == nil {
				// Not before there is something to compare with: after a clone the next writes copy what they touch.
				written = o.rows.Clone()
			}
			if _, ok := o.names[obj.GetName()]; !ok && len(own) == 0 {
				if !yield(obj) {
					return
				}
				continue
			}
			path := object.KeyOf(obj).Path()
			for len(own) > 0 && own[0].path[skip:] < path {
				if !yieldLayer(own[0], yield) {
					return
				}
				own = own[1:]
			}
			if written.Has(layer{path: path}) {
				continue
			}
			if !yield(obj) {
				return
			}
		}
		for _, l := range own {
			if !yieldLayer(l, yield) {
				return
			}
		}
	}
}

// yieldLayer passes over an object that is not of the wanted type, which the prefixes exclude.
func yieldLayer[T object.Object](l layer, yield func(T) bool) bool {
	obj, ok := l.obj.(T)
	return !ok || yield(obj)
}
