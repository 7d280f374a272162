package cluster

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// Change is what happened to one object. Old is nil for a creation, New for a deletion. controller.Change has the same fields.
type Change struct {
	Key      object.Key
	Old, New object.Object
}

// Overlay is a Reader over a base with writes of its own on top, which its reads see at once. It has one user as long as it is written; what is
// written no more may be read by several. What it costs follows from the number of its writes, not from the size of the base. It satisfies controller.Overlay.
type Overlay struct {
	base Reader
	// written are the layers by key, rows the same by what finds them.
	written map[object.Key]*layer
	rows    *rows
	// names are the names of all written keys: most objects of the base are told apart from them without making a path.
	names map[string]struct{}
	// sorts are the sorts of pods that were written, with how many more there are than in the base.
	sorts *btree.BTreeG[object.Alike]
	// counted is the pod that was counted last, and its sort: the next one is mostly made from the same template.
	counted object.Alike
	// nodes is how many more nodes are in each counted row than in the base.
	nodes map[object.Row]int
	// kept are the keys whose statuses stay as they were written.
	kept map[object.Key]struct{}
}

// newSorts is a table of sorts, whose Pods are how many more there are than in the base.
func newSorts() *btree.BTreeG[object.Alike] {
	return btree.NewG(8, func(a, b object.Alike) bool { return a.Sort < b.Sort })
}

// NewOverlay puts an empty overlay on base, which must not change while the overlay is used.
func NewOverlay(base Reader) *Overlay {
	return &Overlay{base: base, written: map[object.Key]*layer{}, rows: newRows(), sorts: newSorts(), names: map[string]struct{}{}, nodes: map[object.Row]int{}}
}

// Rev is the base's revision.
func (o *Overlay) Rev() uint64 { return o.base.Rev() }

// Base is what the overlay stands on.
func (o *Overlay) Base() Reader { return o.base }

// Get returns one object.
func (o *Overlay) Get(k object.Key) (object.Object, bool) {
	if l, ok := o.written[k]; ok {
		return l.obj, l.obj != nil
	}
	return o.base.Get(k)
}

// Put stores an object under its key. The overlay keeps obj: the caller must not change it afterwards.
func (o *Overlay) Put(obj object.Object) { o.write(object.KeyOf(obj), obj, o.fromBase) }

// Delete removes an object; it is no error if there is none.
func (o *Overlay) Delete(k object.Key) { o.write(k, nil, o.fromBase) }

// fromBase is the pod or node that the base has under a key.
func (o *Overlay) fromBase(k object.Key) object.Object {
	if k.Resource != "pods" && k.Resource != "nodes" {
		return nil // nobody asks
	}
	old, _ := o.base.Get(k)
	return old
}

// write puts an object, nil for none, under a key. before tells what a key that was not written before held.
func (o *Overlay) write(k object.Key, obj object.Object, before func(object.Key) object.Object) {
	l, had := o.written[k]
	var old object.Object
	if had {
		old = l.obj
	} else {
		old = before(k)
		l = &layer{path: k.Path(), key: k, since: len(o.written)}
		o.written[k] = l
		o.rows.put(l)
		o.names[k.Name] = struct{}{}
	}
	o.recount(k, old, obj)
	l.obj = obj
	var prefixes []string
	if obj != nil {
		prefixes = indexPrefixes(obj)
	}
	o.rows.index(l, prefixes)
}

// recount counts what becomes of a pod or a node that was old, nil for none.
func (o *Overlay) recount(k object.Key, old, now object.Object) {
	if k.Resource == "nodes" {
		o.countNode(old, -1)
		o.countNode(now, 1)
	}
	if k.Resource != "pods" {
		return
	}
	if old != nil && now != nil && object.SameSort(old.(*corev1.Pod), now.(*corev1.Pod)) {
		return
	}
	if old != nil {
		o.count(old, -1)
	}
	if now != nil {
		o.count(now, 1)
	}
}

// countNode adds n to the rows that a node, nil for none, is counted in.
func (o *Overlay) countNode(obj object.Object, n int) {
	if obj == nil {
		return
	}
	for _, row := range object.Rows(obj) {
		if row.Counted() {
			o.nodes[row] += n
		}
	}
}

func (o *Overlay) count(obj object.Object, n int) {
	p := obj.(*corev1.Pod)
	if c := &o.counted; c.Example == nil || c.Example.Namespace != p.Namespace || !object.SameSort(c.Example, p) {
		*c = object.Alike{Sort: object.SortOf(p), Example: p}
	}
	sort := o.counted.Sort
	s, had := o.sorts.Get(object.Alike{Sort: sort})
	if !had {
		s = object.Alike{Sort: sort}
	}
	if s.Pods += n; n > 0 || s.Example == nil {
		s.Example = p
	}
	o.sorts.ReplaceOrInsert(s)
}

// Alike yields the sorts of a namespace's pods, or of those of them that owner controls if it is not empty.
func (o *Overlay) Alike(namespace string, owner types.UID) iter.Seq[object.Alike] {
	return func(yield func(object.Alike) bool) {
		prefix := object.SortsOf(namespace, owner)
		more := map[string]object.Alike{}
		o.sorts.AscendGreaterOrEqual(object.Alike{Sort: prefix}, func(s object.Alike) bool {
			if !strings.HasPrefix(s.Sort, prefix) {
				return false
			}
			more[s.Sort] = s
			return true
		})
		for a := range o.base.Alike(namespace, owner) {
			if s, written := more[a.Sort]; written {
				a.Pods += s.Pods
				delete(more, a.Sort)
			}
			if a.Pods > 0 && !yield(a) {
				return
			}
		}
		for _, sort := range slices.Sorted(maps.Keys(more)) {
			if s := more[sort]; s.Pods > 0 && !yield(s) {
				return
			}
		}
	}
}

// Indexed yields the objects that are in a row.
func (o *Overlay) Indexed(row object.Row) iter.Seq[object.Object] {
	return merge(o, "", o.base.Indexed(row), o.indexed(rowPrefix(row)))
}

// CountNodes is how many nodes are in a row that is counted.
func (o *Overlay) CountNodes(row object.Row) int { return o.base.CountNodes(row) + o.nodes[row] }

// indexed is what the overlay itself has under a prefix of the index.
func (o *Overlay) indexed(prefix string) func() []seen {
	return func() []seen { return o.rows.indexed(prefix) }
}

// Removed tells whether the overlay removes an object that the base has. To put another one under its key would show watchers a change
// of one object into another.
func (o *Overlay) Removed(k object.Key) bool {
	l, written := o.written[k]
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

// List yields the objects of a resource, in one namespace, or in all if namespace is empty.
func (o *Overlay) List(resource, namespace string) iter.Seq[object.Object] {
	own := func() []seen { return o.rows.list(resource, namespace) }
	if o.rows.bare(resource, namespace) {
		return merge(o, resource, func(func(object.Object) bool) {}, own)
	}
	return func(yield func(object.Object) bool) {
		found := false
		base := func(yield func(object.Object) bool) {
			for obj := range o.base.List(resource, namespace) {
				if found = true; !yield(obj) {
					return
				}
			}
		}
		if merge(o, resource, base, own)(yield); !found {
			o.rows.setBare(resource, namespace)
		}
	}
}

// Owned yields the objects whose metadata.ownerReferences name the UID, of every resource.
func (o *Overlay) Owned(owner types.UID) iter.Seq[object.Object] {
	return merge(o, "", o.base.Owned(owner), o.indexed(ownerPrefix(owner)))
}

// Orphans yields the pods or ReplicaSets of a namespace that no owner controls.
func (o *Overlay) Orphans(resource, namespace string) iter.Seq[object.Object] {
	return merge(o, resource, o.base.Orphans(resource, namespace), o.indexed(orphanPrefix(resource, namespace)))
}

// PodsOn yields the pods whose spec.nodeName is node.
func (o *Overlay) PodsOn(node string) iter.Seq[*corev1.Pod] {
	return merge(o, "pods", o.base.PodsOn(node), o.indexed(nodePrefix(node)))
}

// Unbound yields the pods that have no node, and neither are terminating nor have ended.
func (o *Overlay) Unbound() iter.Seq[*corev1.Pod] {
	return merge(o, "pods", o.base.Unbound(), o.indexed(unboundPrefix))
}

// Changes lists what differs from the base, in the order of paths. A key whose object came out as it was is left out.
func (o *Overlay) Changes() []Change {
	layers := o.rows.all()
	out := make([]Change, 0, len(layers))
	for _, l := range layers {
		old, had := o.base.Get(l.key)
		switch {
		case !had && l.obj == nil, had && l.obj != nil && (old == l.obj || equality.Semantic.DeepEqual(old, l.obj)):
			continue
		case !had:
			old = nil
		}
		out = append(out, Change{Key: l.key, Old: old, New: l.obj})
	}
	return out
}

// Written yields the keys that were written, in the order of paths.
func (o *Overlay) Written() iter.Seq[object.Key] {
	return func(yield func(object.Key) bool) {
		for _, l := range o.rows.all() {
			if !yield(l.key) {
				return
			}
		}
	}
}

// Len is the number of keys that were written.
func (o *Overlay) Len() int { return len(o.written) }

// Apply writes the changes into the overlay, as when what was tried on one overlay is taken over into the one below. They begin where its base ends.
func (o *Overlay) Apply(changes []Change) {
	for _, c := range changes {
		o.write(c.Key, c.New, func(object.Key) object.Object { return c.Old })
	}
}

// merge yields the base's objects that the overlay has not written, and its own rows, in the order of paths. resource is that of all of them, empty if there
// are several. The rows are taken at the start, so that the loop's body may write.
func merge[T object.Object](o *Overlay, resource string, base iter.Seq[T], rows func() []seen) iter.Seq[T] {
	return func(yield func(T) bool) {
		own := rows()
		start := len(o.written)
		if start == 0 {
			base(yield)
			return
		}
		for obj := range base {
			_, named := o.names[obj.GetName()]
			if !named && len(own) == 0 {
				if !yield(obj) {
					return
				}
				continue
			}
			key := object.Key{Resource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName()}
			if resource == "" {
				key = object.KeyOf(obj)
			}
			for ; len(own) > 0 && own[0].before(key); own = own[1:] {
				if !yieldLayer(own[0], yield) {
					return
				}
			}
			if named {
				if l, ok := o.written[key]; ok && l.since < start {
					continue
				}
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

// before tells whether the layer's path is before a key's, which is mostly told without making that.
func (l *layer) before(k object.Key) bool {
	if l.key.Resource == k.Resource && l.key.Namespace == k.Namespace {
		return l.key.Name < k.Name
	}
	return l.path < k.Path()
}

// yieldLayer passes over an object that is not of the wanted type, which the prefixes exclude.
func yieldLayer[T object.Object](l seen, yield func(T) bool) bool {
	obj, ok := l.obj.(T)
	return !ok || yield(obj)
}
