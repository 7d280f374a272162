package api

import (
	"context"
	"errors"
	"iter"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// View is a consistent state of all objects at a revision. Objects are shared: copy before changing one.
type View interface {
	// Rev is the revision that the view shows.
	Rev() uint64
	// Get returns one object.
	Get(object.Key) (object.Object, bool)
	// List yields the objects of a resource, in one namespace, or in all if namespace is empty, in the order of keys.
	List(resource, namespace string) iter.Seq[object.Object]
}

// StoredView is a View that has the objects' stored bytes at hand: what is protobuf in them is not encoded and kept a second time for lists.
type StoredView interface {
	View
	// ListStored is List, from the path start on (object.Key.Path) if it is not empty, with the bytes that each object is stored as
	// (object.Payload), nil if it is shown otherwise. The bytes are shared. It may begin before start.
	ListStored(resource, namespace, start string) iter.Seq2[object.Object, []byte]
}

// listStored is ListStored of any view.
func listStored(v View, resource, namespace, start string) iter.Seq2[object.Object, []byte] {
	if s, ok := v.(StoredView); ok {
		return s.ListStored(resource, namespace, start)
	}
	return func(yield func(object.Object, []byte) bool) {
		for o := range v.List(resource, namespace) {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// PastView is a View of an earlier state. Err is ErrCompacted once the store has begun to forget it.
type PastView interface {
	View
	Err() error
}

// Store is what api reads.
type Store interface {
	// View is the newest committed state that this server has.
	View() View
	// ViewAt is the state as it was at a revision that View has come to. Reading it shows nothing wrong as long as Err, asked afterwards, is
	// nil. ErrCompacted tells that it is no longer kept.
	ViewAt(rev uint64) (PastView, error)
	// Barrier returns when View shows everything that was committed anywhere before the call.
	Barrier(ctx context.Context) error
	// Wait returns when View is at rev or later.
	Wait(ctx context.Context, rev uint64) error
	// Watch follows the changes of a resource (in a namespace, if not empty) after a revision. It returns ErrCompacted if the past is
	// no longer kept, and so may Next.
	Watch(resource, namespace string, after uint64) (Watch, error)
}

// Watch is a cursor over changes, as cluster.Watch is. It is used by one goroutine at a time and needs no closing.
type Watch interface {
	// Next blocks until there are changes, and returns them in the order of revisions with the revision up to which the watch is
	// now complete. If ctx ends first it returns that revision and ctx's error, and may be called again.
	Next(ctx context.Context) ([]cluster.Event, uint64, error)
}

// ErrCompacted is returned when a watch wants a past that is no longer kept; the client lists again.
var ErrCompacted = errors.New("the revision is compacted")

// Writer takes every write. Its errors are Kubernetes' StatusErrors.
type Writer interface {
	Submit(ctx context.Context, r sequencer.Request) (sequencer.Result, error)
}
