package table

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"

	"reconcile/object"
)

// Scale prints the scale of any kind, which is no kind of its own.
var Scale = Printer{
	Columns: []Column{
		nameColumn,
		count("Desired", "Number of replicas that are wanted."),
		count("Available", "Number of replicas that there are."),
		ageColumn,
	},
	Row: func(o object.Object, now time.Time) []any {
		s := o.(*autoscalingv1.Scale)
		return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), ageOf(s, now)}
	},
}
