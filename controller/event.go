package controller

import (
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// event writes an Event object: a new one, or a higher count on that of the same reason and message.
func (s *settling) event(e Event) {
	key := eventKey(e)
	if space, ok := s.o.Get(object.Key{Resource: "namespaces", Name: key.Namespace}); !ok || space.GetDeletionTimestamp() != nil {
		// Nothing new comes into a namespace that goes; nobody could read it either.
		return
	}
	now := metav1.NewTime(s.now)
	if old, ok := s.o.Get(key); ok {
		ev := object.Copy(old).(*corev1.Event)
		ev.Count++
		ev.LastTimestamp = now
		s.write(Change{Key: key, Old: old, New: ev})
		return
	}
	ev := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: key.Name, Namespace: key.Namespace, UID: HashUID("event", key.Namespace, key.Name), CreationTimestamp: now},
		InvolvedObject: reference(e.Regarding),
		Type:           e.Type, Reason: e.Reason, Message: truncate(e.Message, 1024),
		Source:         corev1.EventSource{Component: e.Component},
		FirstTimestamp: now, LastTimestamp: now, Count: 1, ReportingController: e.Component,
	}
	ev.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Event"))
	s.write(Change{Key: key, New: ev})
}

// eventKey is where an event is kept.
func eventKey(e Event) object.Key {
	ns := e.Regarding.GetNamespace()
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	h := fnv.New64a()
	for _, part := range []string{string(e.Regarding.GetUID()), e.Type, e.Reason, e.Message, e.Component} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	// It begins with a zero: of the events of one second, the cluster's then stand before the agents', whose names end with the time (kubectl orders
	// events by seconds, and leaves them in the order of their names in one).
	return object.Key{Resource: "events", Namespace: ns, Name: fmt.Sprintf("%s.%016x", truncate(e.Regarding.GetName(), 230), h.Sum64()>>4)}
}

// toldAlready tells whether an event is there: what lasts need not be told each time that somebody looks.
func toldAlready(v View, e Event) bool {
	_, there := v.Get(eventKey(e))
	return there
}

func reference(o object.Object) corev1.ObjectReference {
	ref := corev1.ObjectReference{Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion()}
	if k, err := object.KindOfObject(o); err == nil {
		ref.APIVersion, ref.Kind = k.GVK.GroupVersion().String(), k.GVK.Kind
	}
	return ref
}

func truncate(t string, n int) string {
	if len(t) <= n {
		return t
	}
	return t[:n]
}
