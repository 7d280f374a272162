package cluster

import (
	"context"
	"fmt"
	"strconv"

	"reconcile/object"
	"reconcile/raftstore"
)

// EventType is what happened, spelled as Kubernetes spells it.
type EventType string

// The types of events.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
)

// Event is one change of one object.
type Event struct {
	Type EventType
	// Object is the new state; for Deleted the last one, with the deletion's revision as its resourceVersion. It is shared.
	Object object.Object
	// Prev is the state before, nil for Added: it tells whether the object has just left or entered a selector. It is shared.
	Prev object.Object
	// Rev is the change's revision; a watch may go on after it.
	Rev uint64
}

// Watch follows the objects of a resource. It has one user at a time and needs no closing.
type Watch struct{ w *raftstore.Watch }

// WatchObjects follows the objects of a resource, in one namespace or in all if namespace is empty, after revision rev: that of a
// list (View.Rev) or of an event. raftstore.ErrCompacted (HTTP's 410) tells that the history does not reach back so far: list
// again.
func WatchObjects(s *raftstore.Store, resource, namespace string, rev uint64) (*Watch, error) {
	w, err := s.Watch(object.PathPrefix(resource, namespace), rev)
	if err != nil {
		return nil, err
	}
	return &Watch{w: w}, nil
}

// Next blocks until something happened, and returns it in order, with the revision up to which the watch is now complete. If ctx ends
// first, it returns no events, the revision (for a bookmark) and ctx's error, and may be called again. ErrCompacted may also come at the first events: those
// of the oldest revision that the history shows do not tell what was before.
func (w *Watch) Next(ctx context.Context) ([]Event, uint64, error) {
	events, rev, err := w.w.Next(ctx)
	if err != nil {
		return nil, rev, err
	}
	out := make([]Event, 0, len(events))
	for i := range events {
		if events[i].PrevLost() {
			// Whether it has entered or left a selection cannot be told any more, nor what was deleted.
			return nil, rev, fmt.Errorf("what %s was before revision %d: %w", events[i].Key, events[i].Rev, raftstore.ErrCompacted)
		}
		if e, ok := typed(events[i]); ok {
			out = append(out, e)
		}
	}
	return out, rev, nil
}

func typed(e *raftstore.Event) (Event, bool) {
	out := Event{Type: Added, Rev: e.Rev}
	if e.Prev != nil {
		prev, ok := Object(e.Prev)
		if !ok {
			return out, false
		}
		out.Prev, out.Type = prev, Modified
	}
	if e.Deleted {
		out.Type = Deleted
		out.Object = e.Rec.Decoded(func(r *raftstore.Record) any {
			last := object.Copy(out.Prev)
			last.SetResourceVersion(strconv.FormatUint(r.ModRev, 10))
			return last
		}).(object.Object)
		return out, true
	}
	o, ok := Object(e.Rec)
	out.Object = o
	return out, ok
}
