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
	ns := e.Regarding.GetNamespace()
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	if space, ok := s.o.Get(object.Key{Resource: "namespaces", Name: ns}); !ok || space.GetDeletionTimestamp() != nil {
		// Nothing new comes into a namespace that goes; nobody could read it either.
		return
	}
	h := fnv.New64a()
	for _, part := range []string{string(e.Regarding.GetUID()), e.Type, e.Reason, e.Message, e.Component} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	// It begins with a zero: of the events of one second, the cluster's then stand before the agents', whose names end with the time (kubectl orders
	// events by seconds, and leaves them in the order of their names in one).
	name := fmt.Sprintf("%s.%016x", truncate(e.Regarding.GetName(), 230), h.Sum64()>>4)
	key := object.Key{Resource: "events", Namespace: ns, Name: name}
	now := metav1.NewTime(s.now)
	if old, ok := s.o.Get(key); ok {
		ev := object.Copy(old).(*corev1.Event)
		ev.Count++
		ev.LastTimestamp = now
		s.write(Change{Key: key, Old: old, New: ev})
		return
	}
	ev := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name, Namespace: ns, UID: HashUID("event", ns, name), CreationTimestamp: now},
		InvolvedObject: reference(e.Regarding),
		Type:           e.Type, Reason: e.Reason, Message: truncate(e.Message, 1024),
		Source:         corev1.EventSource{Component: e.Component},
		FirstTimestamp: now, LastTimestamp: now, Count: 1, ReportingController: e.Component,
	}
	ev.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Event"))
	s.write(Change{Key: key, New: ev})
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
