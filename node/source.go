package node

import (
	"context"

	"reconcile/object"
)

// Source is where the agent learns what is wanted. In production it is an HTTP client with several servers.
type Source interface {
	// Follow calls r with the whole selection and then with each change until ctx ends. It retries by itself when servers are
	// away, and returns only ctx's error or one that retrying cannot cure.
	Follow(ctx context.Context, sel object.Selection, r object.Receiver) error
	// Get returns one object, or an error for which apierrors.IsNotFound tells that there is none.
	Get(ctx context.Context, key object.Key) (object.Object, error)
}

// Sink is where the agent reports. Objects given to it are the sink's afterwards.
type Sink interface {
	// Create stores a new object (a Node, an Event, a Lease).
	Create(ctx context.Context, o object.Object) (object.Object, error)
	// Update replaces an object; a stale resourceVersion is a Conflict.
	Update(ctx context.Context, o object.Object) (object.Object, error)
	// UpdateStatus replaces an object's status; a stale resourceVersion is a Conflict, an empty one is none.
	UpdateStatus(ctx context.Context, o object.Object) (object.Object, error)
	// Delete removes an object for good, with grace period 0, if its UID is uid.
	Delete(ctx context.Context, key object.Key, uid string) error
}
