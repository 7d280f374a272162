// Package memview is a View and Overlay in memory: maps and sorted slices, no revisions of objects, no index but a few.
//
// It is the semantic fake of cluster's views: tests of controllers, of plans and of whoever needs a small state use it. It
// knows object and controller only, and owns the objects put into it, which it never changes.
package memview

import (
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/controller"
	"reconcile/object"
)

// State is all objects. The zero value is not ready: call New.
type State struct {
	rev     uint64
	objects map[string]map[object.Key]object.Object // by resource
	sorted  map[string][]object.Key                 // by resource; missing when stale
	owned   map[types.UID]map[object.Key]bool
	nodes   map[string]map[object.Key]bool
	unbound map[object.Key]bool
	rows    map[object.Row]map[object.Key]bool
	changes []controller.Change
}

// New returns a state with the objects given.
func New(objects ...object.Object) *State {
	s := &State{objects: map[string]map[object.Key]object.Object{}, sorted: map[string][]object.Key{},
		owned: map[types.UID]map[object.Key]bool{}, nodes: map[string]map[object.Key]bool{}, unbound: map[object.Key]bool{}, rows: map[object.Row]map[object.Key]bool{}}
	for _, o := range objects {
		s.Put(o)
	}
	s.changes = nil
	return s
}

// Clone returns an independent state with the same objects and no changes.
func (s *State) Clone() *State {
	c := New()
	for _, byKey := range s.objects {
		for _, o := range byKey {
			c.Put(o)
		}
	}
	c.rev, c.changes = s.rev, nil
	return c
}

// Rev is the number of writes.
func (s *State) Rev() uint64 { return s.rev }

// Get implements controller.View.
func (s *State) Get(k object.Key) (object.Object, bool) {
	o, ok := s.objects[k.Resource][k]
	return o, ok
}

// List implements controller.View.
func (s *State) List(resource, namespace string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for _, k := range s.keys(resource) {
			if namespace != "" && k.Namespace != namespace {
				continue
			}
			if o, ok := s.Get(k); ok && !yield(o) {
				return
			}
		}
	}
}

func (s *State) keys(resource string) []object.Key {
	if list, ok := s.sorted[resource]; ok {
		return list
	}
	list := make([]object.Key, 0, len(s.objects[resource]))
	for k := range s.objects[resource] {
		list = append(list, k)
	}
	slices.SortFunc(list, object.Key.Compare)
	s.sorted[resource] = list
	return list
}

func (s *State) set(keys map[object.Key]bool) []object.Object {
	list := make([]object.Key, 0, len(keys))
	for k := range keys {
		list = append(list, k)
	}
	slices.SortFunc(list, object.Key.Compare)
	out := make([]object.Object, 0, len(list))
	for _, k := range list {
		if o, ok := s.Get(k); ok {
			out = append(out, o)
		}
	}
	return out
}

// Owned implements controller.View.
func (s *State) Owned(owner types.UID) iter.Seq[object.Object] {
	return slices.Values(s.set(s.owned[owner]))
}

// Alike implements controller.View.
func (s *State) Alike(namespace string, owner types.UID) iter.Seq[object.Alike] {
	list := s.List("pods", namespace)
	if owner != "" {
		list = s.Owned(owner)
	}
	sorts := map[string]object.Alike{}
	for o := range list {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Namespace != namespace {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(p); owner != "" && (ref == nil || ref.UID != owner) {
			continue
		}
		sort := object.SortOf(p)
		sorts[sort] = object.Alike{Sort: sort, Example: p, Pods: sorts[sort].Pods + 1}
	}
	return func(yield func(object.Alike) bool) {
		for _, sort := range slices.Sorted(maps.Keys(sorts)) {
			if !yield(sorts[sort]) {
				return
			}
		}
	}
}

// Indexed implements controller.View.
func (s *State) Indexed(row object.Row) iter.Seq[object.Object] {
	return slices.Values(s.set(s.rows[row]))
}

// CountNodes implements controller.View.
func (s *State) CountNodes(row object.Row) int { return len(s.rows[row]) }

// Orphans implements controller.View.
func (s *State) Orphans(resource, namespace string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for o := range s.List(resource, namespace) {
			if metav1.GetControllerOfNoCopy(o) == nil && !yield(o) {
				return
			}
		}
	}
}

// PodsOn implements controller.View.
func (s *State) PodsOn(node string) iter.Seq[*corev1.Pod] { return pods(s.set(s.nodes[node])) }

// Unbound implements controller.View.
func (s *State) Unbound() iter.Seq[*corev1.Pod] { return pods(s.set(s.unbound)) }

func pods(list []object.Object) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for _, o := range list {
			if p, ok := o.(*corev1.Pod); ok && !yield(p) {
				return
			}
		}
	}
}

// Put implements controller.Overlay.
func (s *State) Put(o object.Object) {
	key := object.KeyOf(o)
	old := s.remove(key)
	if s.objects[key.Resource] == nil {
		s.objects[key.Resource] = map[object.Key]object.Object{}
	}
	s.objects[key.Resource][key] = o
	if old == nil {
		delete(s.sorted, key.Resource)
	}
	for _, r := range owners(o) {
		add(s.owned, r, key)
	}
	for _, r := range object.Rows(o) {
		add(s.rows, r, key)
	}
	if p, ok := o.(*corev1.Pod); ok {
		if p.Spec.NodeName != "" {
			add(s.nodes, p.Spec.NodeName, key)
		} else if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			s.unbound[key] = true
		}
	}
	s.note(controller.Change{Key: key, Old: old, New: o})
}

// Delete implements controller.Overlay.
func (s *State) Delete(key object.Key) {
	if old := s.remove(key); old != nil {
		delete(s.sorted, key.Resource)
		s.note(controller.Change{Key: key, Old: old})
	}
}

func (s *State) remove(key object.Key) object.Object {
	old, ok := s.objects[key.Resource][key]
	if !ok {
		return nil
	}
	delete(s.objects[key.Resource], key)
	for _, r := range owners(old) {
		delete(s.owned[r], key)
	}
	for _, r := range object.Rows(old) {
		delete(s.rows[r], key)
	}
	if p, ok := old.(*corev1.Pod); ok {
		delete(s.nodes[p.Spec.NodeName], key)
		delete(s.unbound, key)
	}
	return old
}

func (s *State) note(ch controller.Change) {
	s.rev++
	s.changes = append(s.changes, ch)
}

// TakeChanges returns what was written since it was last called, one change a key with the first old and the last new state, in
// the order of first writes.
func (s *State) TakeChanges() []controller.Change {
	at := map[object.Key]int{}
	var out []controller.Change
	for _, ch := range s.changes {
		if i, ok := at[ch.Key]; ok {
			out[i].New = ch.New
			continue
		}
		at[ch.Key] = len(out)
		out = append(out, ch)
	}
	s.changes = nil
	return slices.DeleteFunc(out, func(ch controller.Change) bool { return ch.Old == nil && ch.New == nil })
}

func owners(o object.Object) []types.UID {
	var out []types.UID
	for _, r := range o.GetOwnerReferences() {
		out = append(out, r.UID)
	}
	return out
}

func add[K comparable](m map[K]map[object.Key]bool, k K, key object.Key) {
	if m[k] == nil {
		m[k] = map[object.Key]bool{}
	}
	m[k][key] = true
}

var _ controller.Overlay = (*State)(nil)
