package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// eventLife is how long an event is kept after it last happened, as in Kubernetes.
const eventLife = time.Hour

// eventTTL deletes old events. Its key is a namespace; it looks at most once a minute.
type eventTTL struct{}

func (eventTTL) Name() string      { return "event-ttl" }
func (eventTTL) Watches() []string { return []string{"events"} }

func (eventTTL) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Old == nil {
		emit(object.Key{Resource: "namespaces", Name: ch.Key.Namespace})
	}
}

func (eventTTL) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	var res Result
	for o := range v.List("events", key.Name) {
		end := lastSeen(o.(*corev1.Event)).Add(eventLife)
		if !end.After(now) {
			res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(o)})
		} else if res.Wake.IsZero() || end.Before(res.Wake) {
			res.Wake = end
		}
	}
	if !res.Wake.IsZero() {
		res.Wake = res.Wake.Truncate(time.Minute).Add(time.Minute)
	}
	return res, nil
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
