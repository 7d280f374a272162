package server

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"reconcile/api"
	"reconcile/cluster"
	"reconcile/gitops"
	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// objects gives api the cluster's objects.
type objects struct {
	store *raftstore.Store
	seq   *sequencer.Sequencer
}

// View implements api.Store.
func (o objects) View() api.View { return shown{cluster.NewView(o.store.View())} }

// shown is a view as clients see it: rows of commits tell the entry by which the commit was made, which is not stored in them.
type shown struct{ *cluster.View }

// ViewAt implements api.Store.
func (o objects) ViewAt(rev uint64) (api.PastView, error) {
	v, err := o.store.View().At(rev)
	if err != nil {
		return nil, compacted(err)
	}
	return past{shown{cluster.NewView(v)}}, nil
}

// past is an earlier view.
type past struct{ shown }

// Err implements api.PastView.
func (p past) Err() error { return compacted(p.Raw().Err()) }

// Get implements api.View.
func (s shown) Get(k object.Key) (object.Object, bool) {
	o, ok := s.View.Get(k)
	return withEntry(s.Raw(), o), ok
}

// List implements api.View.
func (s shown) List(resource, namespace string) iter.Seq[object.Object] {
	if resource != "commits" {
		return s.View.List(resource, namespace)
	}
	return func(yield func(object.Object) bool) {
		for o := range s.View.List(resource, namespace) {
			if !yield(withEntry(s.Raw(), o)) {
				return
			}
		}
	}
}

// ListStored implements api.StoredView.
func (s shown) ListStored(resource, namespace, start string) iter.Seq2[object.Object, []byte] {
	if resource != "commits" {
		return s.View.ListStored(resource, namespace, start)
	}
	return func(yield func(object.Object, []byte) bool) {
		for o := range s.List(resource, namespace) {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// withEntry is o, or if o is the row of a commit whose place in the log is known, one that tells it.
func withEntry(v *raftstore.View, o object.Object) object.Object {
	c, ok := o.(*object.Commit)
	if !ok {
		return o
	}
	next := *c // a flat copy will do: only the pointer is replaced
	next.Status.Entry = nil
	if p, ok := v.Place(object.KeyOf(c).Path()); ok {
		next.Status.Entry = &object.CommitEntry{FirstRevision: p.First, LastRevision: p.Last, RaftIndex: p.Index, RaftTerm: p.Term}
	}
	return &next
}

// Barrier implements api.Store.
func (o objects) Barrier(ctx context.Context) error { return o.seq.Barrier(ctx) }

// Wait implements api.Store.
func (o objects) Wait(ctx context.Context, rev uint64) error { return o.store.WaitRev(ctx, rev) }

// Watch implements api.Store.
func (o objects) Watch(resource, namespace string, after uint64) (api.Watch, error) {
	w, err := cluster.WatchObjects(o.store, resource, namespace, after)
	if err != nil {
		return nil, compacted(err)
	}
	return watch{w, o.store, resource == "commits"}, nil
}

// watch gives api a watch of the cluster's objects, with api's error for a past that is gone.
type watch struct {
	*cluster.Watch
	store   *raftstore.Store
	commits bool
}

// Next implements api.Watch.
func (w watch) Next(ctx context.Context) ([]cluster.Event, uint64, error) {
	events, rev, err := w.Watch.Next(ctx)
	if w.commits && len(events) > 0 {
		v := w.store.View()
		for i := range events {
			events[i].Object = withEntry(v, events[i].Object)
		}
	}
	return events, rev, compacted(err)
}

// compacted turns the store's error into api's.
func compacted(err error) error {
	if errors.Is(err, raftstore.ErrCompacted) {
		return fmt.Errorf("%w: %w", api.ErrCompacted, err)
	}
	return err
}

// packs gives the repository its packs and refs.
type packs struct{ store *raftstore.Store }

// View implements git.Store.
func (p packs) View() git.View { return packView{p.store.View()} }

// Blob implements git.Store.
func (p packs) Blob(_ context.Context, digest string) ([]byte, error) { return p.store.Blob(digest) }

type packView struct{ v *raftstore.View }

// Get implements git.View.
func (p packView) Get(key string) ([]byte, bool) {
	r, ok := p.v.Get(key)
	if !ok {
		return nil, false
	}
	return r.Value, true
}

// Range implements git.View.
func (p packView) Range(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for r := range p.v.Range(prefix) {
			if !yield(r.Key, r.Value) {
				return
			}
		}
	}
}

// live gives gitops the cluster's objects.
type live struct{ store *raftstore.Store }

// View implements gitops.State.
func (l live) View() gitops.View { return cluster.NewView(l.store.View()) }

// origins tells api where git says a field.
type origins struct {
	store   *raftstore.Store
	commits *gitops.Service
}

// Origin implements api.Origins.
func (o origins) Origin(key object.Key, field string) (api.FieldOrigin, bool) {
	obj, ok := cluster.NewView(o.store.View()).Get(key)
	if !ok {
		return api.FieldOrigin{}, false
	}
	commit, file := obj.GetAnnotations()[object.AnnotationCommit], obj.GetAnnotations()[object.AnnotationFile]
	at, err := o.commits.Blame(commit, file, field)
	if err != nil {
		return api.FieldOrigin{}, false
	}
	return api.FieldOrigin{Commit: commit, File: at.File, Line: at.Line}, true
}
