// Package apitest is a small store in memory behind the interfaces that package api reads and writes through, and a server of it
// over TLS. Tests of api, of client and of the command line use it.
//
// It owns a copy-on-write tree of objects and the list of their changes. It has the store's contract (a revision of its own for
// every write, immutable shared objects, watches that resume anywhere) and writes by the sequencer's own function; it runs no controllers. Suite holds
// it and the real store against the same contract.
package apitest

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
	"reconcile/sequencer"
)

type row struct {
	path string
	obj  object.Object
}

// Store implements api.Store and api.Writer.
type Store struct {
	mu     sync.Mutex
	rev    uint64
	rows   *btree.BTreeG[row]
	events []cluster.Event
	floor  uint64
	woken  chan struct{}
	// past are the rows as they were at each revision since floor.
	past map[uint64]*btree.BTreeG[row]
}

// New makes a store that holds the four preset namespaces.
func New() *Store {
	s := &Store{rows: btree.NewG(32, func(a, b row) bool { return a.path < b.path }), woken: make(chan struct{}), rev: 1, floor: 1, past: map[uint64]*btree.BTreeG[row]{}}
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		admission.Default(ns)
		admission.PrepareCreate(ns, types.UID("ns-"+name), time.Now())
		s.Put(ns)
	}
	return s
}

// Put stores an object as it is, under the next revision, as the cluster itself would.
func (s *Store) Put(o object.Object) object.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(o)
}

func (s *Store) put(o object.Object) object.Object {
	s.rev++
	o = object.Copy(o)
	o.SetResourceVersion(strconv.FormatUint(s.rev, 10))
	if k, err := object.KindOfObject(o); err == nil {
		o.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	old, had := s.rows.ReplaceOrInsert(row{object.KeyOf(o).Path(), o})
	e := cluster.Event{Type: cluster.Added, Object: o, Rev: s.rev}
	if had {
		e.Type, e.Prev = cluster.Modified, old.obj
	}
	s.publish(e)
	return o
}

func (s *Store) drop(o object.Object) object.Object {
	s.rev++
	s.rows.Delete(row{path: object.KeyOf(o).Path()})
	last := object.Copy(o)
	last.SetResourceVersion(strconv.FormatUint(s.rev, 10))
	s.publish(cluster.Event{Type: cluster.Deleted, Object: last, Prev: o, Rev: s.rev})
	return last
}

func (s *Store) publish(e cluster.Event) {
	s.events = append(s.events, e)
	s.past[e.Rev] = s.rows.Clone()
	close(s.woken)
	s.woken = make(chan struct{})
}

// Compact forgets the past: watches that want it are told so.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.floor = nil, s.rev
	s.past = map[uint64]*btree.BTreeG[row]{s.rev: s.rows.Clone()}
	close(s.woken)
	s.woken = make(chan struct{})
}

type view struct {
	rev  uint64
	rows *btree.BTreeG[row]
}

func (v view) Rev() uint64 { return v.rev }

func (v view) Get(k object.Key) (object.Object, bool) {
	r, ok := v.rows.Get(row{path: k.Path()})
	return r.obj, ok
}

func (v view) List(resource, namespace string) iter.Seq[object.Object] {
	prefix := object.PathPrefix(resource, namespace)
	return func(yield func(object.Object) bool) {
		v.rows.AscendGreaterOrEqual(row{path: prefix}, func(r row) bool {
			return strings.HasPrefix(r.path, prefix) && yield(r.obj)
		})
	}
}

// View implements api.Store.
func (s *Store) View() api.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return view{s.rev, s.rows.Clone()}
}

// ViewAt implements api.Store.
func (s *Store) ViewAt(rev uint64) (api.PastView, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, ok := s.past[rev]
	if !ok {
		return nil, api.ErrCompacted
	}
	return pastView{view{rev, rows}, s}, nil
}

// pastView is an earlier state.
type pastView struct {
	view
	s *Store
}

// Err implements api.PastView.
func (v pastView) Err() error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if v.rev < v.s.floor {
		return api.ErrCompacted
	}
	return nil
}

// Barrier implements api.Store: this store is always fresh.
func (s *Store) Barrier(ctx context.Context) error { return ctx.Err() }

// Wait implements api.Store.
func (s *Store) Wait(ctx context.Context, rev uint64) error {
	for {
		s.mu.Lock()
		now, woken := s.rev, s.woken
		s.mu.Unlock()
		if now >= rev {
			return nil
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type watch struct {
	s      *Store
	prefix string
	after  uint64
}

// Watch implements api.Store.
func (s *Store) Watch(resource, namespace string, after uint64) (api.Watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if after < s.floor {
		return nil, api.ErrCompacted
	}
	return &watch{s, object.PathPrefix(resource, namespace), after}, nil
}

// Next implements api.Watch.
func (w *watch) Next(ctx context.Context) ([]cluster.Event, uint64, error) {
	for {
		events, woken, err := w.poll()
		if len(events) > 0 || err != nil {
			return events, w.after, err
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return nil, w.after, ctx.Err()
		}
	}
}

func (w *watch) poll() ([]cluster.Event, <-chan struct{}, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.after < w.s.floor {
		return nil, nil, api.ErrCompacted
	}
	var out []cluster.Event
	for i := int(w.after - w.s.floor); i < len(w.s.events); i++ {
		if e := w.s.events[i]; strings.HasPrefix(object.KeyOf(e.Object).Path(), w.prefix) {
			out = append(out, e)
		}
	}
	w.after = w.s.rev
	return out, w.s.woken, nil
}

// Submit implements api.Writer, with the very function of the sequencer, but for what follows: there are no controllers. What they do for a deletion to
// come to an end is done at once.
func (s *Store) Submit(_ context.Context, r sequencer.Request) (sequencer.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res, written, err := sequencer.Write(reader{view{s.rev, s.rows.Clone()}}, &r, ranges, time.Now())
	if err != nil || r.DryRun {
		return res, err
	}
	for _, ch := range written {
		if ch.New == nil {
			s.drop(ch.Old)
		} else {
			s.put(ch.New)
		}
	}
	for _, ch := range written {
		if ch.New != nil && ch.New.GetDeletionTimestamp() != nil {
			s.end(ch.New)
		}
	}
	return res, nil
}

// ranges are those of a small cluster.
var ranges = admission.Ranges{Services: netip.MustParsePrefix("10.96.0.0/16")}

// end does what controllers do with an object that is being deleted: nothing holds up its dependents, and a namespace is emptied.
func (s *Store) end(o object.Object) {
	o = object.Copy(o)
	o.SetFinalizers(slices.DeleteFunc(o.GetFinalizers(), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	}))
	if ns, ok := o.(*corev1.Namespace); ok && s.empty(ns.Name) {
		ns.Spec.Finalizers = nil
	}
	if controller.Finished(o) {
		s.drop(o)
	}
}

// empty deletes what is in a namespace, and tells whether nothing is left.
func (s *Store) empty(namespace string) bool {
	var all []object.Object
	for _, k := range object.Kinds() {
		if k.Namespaced {
			all = slices.AppendSeq(all, view{s.rev, s.rows}.List(k.Resource, namespace))
		}
	}
	left := false
	for _, o := range all {
		next, gone := controller.BeginDelete(o, controller.DeleteOptions{}, time.Now())
		switch {
		case gone:
			s.drop(o)
			continue
		case next != nil:
			s.put(next)
		}
		left = true
	}
	return !left
}

// reader is a view with the questions that only controllers ask, which are answered by looking at everything.
type reader struct{ view }

func (r reader) all() *memview.State {
	var list []object.Object
	r.rows.Ascend(func(x row) bool {
		list = append(list, x.obj)
		return true
	})
	return memview.New(list...)
}

// Owned implements cluster.Reader.
func (r reader) Owned(owner types.UID) iter.Seq[object.Object] { return r.all().Owned(owner) }

// PodsOn implements cluster.Reader.
func (r reader) PodsOn(node string) iter.Seq[*corev1.Pod] { return r.all().PodsOn(node) }

// Orphans implements cluster.Reader.
func (r reader) Orphans(resource, namespace string) iter.Seq[object.Object] {
	return r.all().Orphans(resource, namespace)
}

// Unbound implements cluster.Reader.
func (r reader) Unbound() iter.Seq[*corev1.Pod] { return r.all().Unbound() }

// CountNodes implements cluster.Reader.
func (r reader) CountNodes(row object.Row) int { return r.all().CountNodes(row) }

// Alike implements cluster.Reader.
func (r reader) Alike(namespace string, owner types.UID) iter.Seq[object.Alike] {
	return r.all().Alike(namespace, owner)
}

// Indexed implements cluster.Reader.
func (r reader) Indexed(row object.Row) iter.Seq[object.Object] { return r.all().Indexed(row) }
