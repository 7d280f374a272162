package table

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

var events = Printer{
	Columns: []Column{
		text("Last Seen", "Time since the event was last seen."),
		text("Type", "Normal or Warning."),
		text("Reason", "Why it was reported, in a word."),
		text("Object", "What the event is about."),
		wide(text("Subobject", "Part of the object that the event is about.")),
		wide(text("Source", "Who reported it.")),
		text("Message", "What happened."),
		wide(text("First Seen", "Time since the event was first seen.")),
		wide(text("Count", "How often it was seen.")),
		wide(nameColumn),
	},
	Row: func(o object.Object, now time.Time) []any {
		e := o.(*corev1.Event)
		first, last := eventTimes(e)
		seen := int64(e.Count)
		if e.Series != nil {
			seen = int64(e.Series.Count)
		} else if seen == 0 {
			seen = 1
		}
		about := strings.ToLower(e.InvolvedObject.Kind)
		if e.InvolvedObject.Name != "" {
			about += "/" + e.InvolvedObject.Name
		}
		return []any{
			age(last, now), e.Type, e.Reason, about, e.InvolvedObject.FieldPath, eventSource(e), strings.TrimSpace(e.Message),
			age(first, now), seen, e.Name,
		}
	},
}

// eventTimes are when an event was seen first and last, in the old and in the new fields.
func eventTimes(e *corev1.Event) (first, last time.Time) {
	first, last = e.FirstTimestamp.Time, e.LastTimestamp.Time
	if first.IsZero() {
		first = e.EventTime.Time
	}
	if e.Series != nil {
		last = e.Series.LastObservedTime.Time
	} else if last.IsZero() {
		last = first
	}
	return first, last
}

func eventSource(e *corev1.Event) string {
	name, host := e.Source.Component, e.Source.Host
	if name == "" {
		name = e.ReportingController
	}
	if host == "" {
		host = e.ReportingInstance
	}
	if host == "" {
		return name
	}
	return name + ", " + host
}
