package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// eventLife is how long an event is kept after it last happened, as in Kubernetes.
const eventLife = time.Hour

// eventTTL deletes old events. Its key is an event: events are many and made often, so one more must not cost a look at the others.
type eventTTL struct{}

func (eventTTL) Name() string      { return "event-ttl" }
func (eventTTL) Watches() []string { return []string{"events"} }

func (eventTTL) Keys(_ View, ch Change, emit func(object.Key)) {
	// One that happens again is found to live on when its first end comes.
	if ch.Old == nil {
		emit(ch.Key)
	}
}

func (eventTTL) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	end := lastSeen(o.(*corev1.Event)).Add(eventLife)
	if end.After(now) {
		// The events of a minute go together, in one entry.
		return Result{Wake: end.Truncate(time.Minute).Add(time.Minute)}, nil
	}
	return Result{Delete: []Deletion{{Key: key}}}, nil
}

func lastSeen(e *corev1.Event) time.Time {
	t := e.CreationTimestamp.Time
	for _, x := range []time.Time{e.FirstTimestamp.Time, e.LastTimestamp.Time, e.EventTime.Time} {
		if x.After(t) {
			t = x
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(t) {
		t = e.Series.LastObservedTime.Time
	}
	return t
}
