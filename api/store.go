package api

import (
	"context"
	"errors"
	"iter"

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

// Store is what api reads.
type Store interface {
	// View is the newest committed state that this server has.
	View() View
	// Barrier returns when View shows everything that was committed anywhere before the call.
	Barrier(ctx context.Context) error
	// Wait returns when View is at rev or later.
	Wait(ctx context.Context, rev uint64) error
	// Watch yields the changes of a resource (in a namespace, if not empty) after a revision. It returns ErrCompacted if the
	// past is no longer kept, and may return it from Next too.
	Watch(resource, namespace string, after uint64) (Watch, error)
}

// Change is one committed change of one object. Prev is nil for a creation, Object for a deletion. Both may be nil: then nothing
// of the watch's selection changed and Rev is only how far it has got.
type Change struct {
	Rev          uint64
	Object, Prev object.Object
}

// Watch is a cursor over changes. It is used by one goroutine at a time.
type Watch interface {
	// Next blocks until there are changes, progress or ctx ends. The changes come in the order of revisions. The slice is the
	// caller's until the next call; the objects are shared.
	Next(ctx context.Context) ([]Change, error)
	// Close frees the cursor.
	Close()
}

// ErrCompacted is returned when a watch wants a past that is no longer kept; the client lists again.
var ErrCompacted = errors.New("the revision is compacted")

// Writer takes every write. Its errors are Kubernetes' StatusErrors.
type Writer interface {
	Submit(ctx context.Context, r sequencer.Request) (sequencer.Result, error)
}
