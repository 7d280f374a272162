package cluster

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"reconcile/object"
)

// layer is one written key: its new object, or nil for a deletion. A key that is written again keeps its layer: most pods are made and then bound.
type layer struct {
	path  string
	key   object.Key
	obj   object.Object
	since int // how many keys were written before
	// prefixes are those of obj's rows in the index.
	prefixes []string
}

// rows find an overlay's layers: those of a resource, and those whose objects have a row in the index. They are put in order when they are read,
// which costs less than to keep them so: most are read once or never, and written thousands at a time. What a row does not find any more is dropped then too.
type rows struct {
	// mu is for readers: an overlay that is written no more may have several, and the first of them puts in order.
	mu         sync.Mutex
	byResource map[string]*row
	byPrefix   map[string]*row
	// without are resources, with a namespace, of which the base has nothing: each pod that is made asks for the same few.
	without map[[2]string]bool
}

// row holds layers, the first of them in the order of paths, each once.
type row struct {
	layers []*layer
	sorted int
}

func newRows() *rows {
	return &rows{byResource: map[string]*row{}, byPrefix: map[string]*row{}, without: map[[2]string]bool{}}
}

func addTo(m map[string]*row, name string, l *layer) {
	r := m[name]
	if r == nil {
		r = &row{}
		m[name] = r
	}
	r.layers = append(r.layers, l)
}

// put notes a key that was not written before.
func (r *rows) put(l *layer) { addTo(r.byResource, l.key.Resource, l) }

// index notes the prefixes of what a layer holds now.
func (r *rows) index(l *layer, prefixes []string) {
	for _, prefix := range prefixes {
		if !slices.Contains(l.prefixes, prefix) { // the others are there: most objects keep their owner
			addTo(r.byPrefix, prefix, l)
		}
	}
	l.prefixes = prefixes
}

// indexed are the layers whose objects have a row under the prefix, as they are now, in the order of paths.
func (r *rows) indexed(prefix string) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.byPrefix[prefix]
	if of == nil {
		return nil
	}
	of.order(func(l *layer) bool { return slices.Contains(l.prefixes, prefix) })
	return present(of.layers)
}

// list are the layers with objects of a resource, in one namespace if that is not empty, as they are now, in the order of paths.
func (r *rows) list(resource, namespace string) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.byResource[resource]
	if of == nil {
		return nil
	}
	of.order(nil)
	list := of.layers
	if namespace != "" {
		prefix := object.PathPrefix(resource, namespace)
		from, _ := slices.BinarySearchFunc(list, prefix, func(l *layer, path string) int { return strings.Compare(l.path, path) })
		list = list[from:]
		if i := slices.IndexFunc(list, func(l *layer) bool { return l.key.Namespace != namespace }); i >= 0 {
			list = list[:i]
		}
	}
	return present(list)
}

// bare tells that the base has nothing of a resource, in one namespace if that is not empty. False says that it is not known.
func (r *rows) bare(resource, namespace string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.without[[2]string{resource, namespace}]
}

func (r *rows) setBare(resource, namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.without[[2]string{resource, namespace}] = true
}

// all are the layers of all resources in the order of paths. They are shared.
func (r *rows) all() []*layer {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*layer
	for _, resource := range slices.SortedFunc(maps.Keys(r.byResource), func(a, b string) int { return strings.Compare(a+"/", b+"/") }) {
		of := r.byResource[resource]
		of.order(nil)
		out = append(out, of.layers...)
	}
	return out
}

// seen is a layer with the object that it held when it was looked at: what writes meanwhile puts another one there.
type seen struct {
	*layer
	obj object.Object
}

// present are the layers that hold an object.
func present(layers []*layer) []seen {
	out := make([]seen, 0, len(layers))
	for _, l := range layers {
		if l.obj != nil {
			out = append(out, seen{l, l.obj})
		}
	}
	return out
}

// order sorts a row and drops what it does not find any more; nil finds all.
func (r *row) order(finds func(*layer) bool) {
	if finds != nil {
		kept, sorted := r.layers[:0], 0
		for i, l := range r.layers {
			if !finds(l) {
				continue
			}
			if kept = append(kept, l); i < r.sorted {
				sorted++
			}
		}
		r.layers, r.sorted = kept, sorted
	}
	if r.sorted == len(r.layers) {
		return
	}
	old, added := r.layers[:r.sorted], r.layers[r.sorted:]
	byPath := func(a, b *layer) int { return strings.Compare(a.path, b.path) }
	slices.SortFunc(added, byPath)
	if len(old) > 0 {
		all := make([]*layer, 0, len(r.layers)+len(r.layers)/4)
		for _, l := range added {
			i, _ := slices.BinarySearchFunc(old, l, byPath)
			all, old = append(append(all, old[:i]...), l), old[i:]
		}
		r.layers = append(all, old...)
	}
	// A layer that left the row and came back was noted twice.
	r.layers = slices.Compact(r.layers)
	r.sorted = len(r.layers)
}
