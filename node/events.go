package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// eventQueue is how many events may wait for a server; more are dropped, the oldest stay.
const eventQueue = 1000

// events writes Events, one at a time and after everything else: they tell, they decide nothing.
type events struct {
	a    *Agent
	in   chan *corev1.Event
	last map[string]*corev1.Event
	at   int64 // what the last name ended with
}

func newEvents(a *Agent) *events {
	return &events{a: a, in: make(chan *corev1.Event, eventQueue), last: map[string]*corev1.Event{}}
}

// tell notes an event of a pod; container is empty for the pod as a whole. It never blocks.
func (e *events) tell(pod *corev1.Pod, container, kind, reason, format string, args ...any) {
	now := metav1.NewTime(time.Now())
	ref := corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
	if container != "" {
		field := "spec.containers{"
		for _, c := range pod.Spec.InitContainers {
			if c.Name == container {
				field = "spec.initContainers{"
			}
		}
		ref.FieldPath = field + container + "}"
	}
	ev := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace}, InvolvedObject: ref, Type: kind, Reason: reason,
		Message: fmt.Sprintf(format, args...), Source: corev1.EventSource{Component: "kubelet", Host: e.a.cfg.NodeName},
		FirstTimestamp: now, LastTimestamp: now, Count: 1, ReportingController: "kubelet", ReportingInstance: e.a.cfg.NodeName}
	select {
	case e.in <- ev:
	default:
	}
}

// run writes events until ctx ends. The same event again only counts up.
func (e *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-e.in:
			if err := e.write(ctx, ev); err != nil && ctx.Err() == nil {
				e.a.cfg.Log.Debug("event lost", "reason", ev.Reason, "pod", ev.InvolvedObject.Name, "err", err)
			}
		}
	}
}

func (e *events) write(ctx context.Context, ev *corev1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	o := ev.InvolvedObject
	key := strings.Join([]string{string(o.UID), o.FieldPath, ev.Reason, ev.Message}, "|")
	if old := e.last[key]; old != nil {
		up := old.DeepCopy()
		up.Count++
		up.LastTimestamp = ev.LastTimestamp
		got, err := e.a.cfg.Sink.Update(ctx, object.Copy(up))
		if err == nil {
			e.remember(key, got, up)
			return nil
		}
	}
	// The name ends with the time in nanoseconds, as client-go's recorder makes it: kubectl orders events by the second of their last time alone, and
	// those of one second stay in the order of their names.
	e.at = max(e.at+1, ev.FirstTimestamp.UnixNano())
	ev.Name = fmt.Sprintf("%s.%016x", o.Name, e.at)
	got, err := e.a.cfg.Sink.Create(ctx, object.Copy(ev))
	if err != nil {
		return err
	}
	e.remember(key, got, ev)
	return nil
}

func (e *events) remember(key string, got object.Object, sent *corev1.Event) {
	if len(e.last) > eventQueue {
		clear(e.last)
	}
	if g, ok := got.(*corev1.Event); ok {
		sent = g
	}
	e.last[key] = sent
}
