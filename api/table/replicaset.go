package table

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"reconcile/object"
)

var replicaSets = Printer{
	Columns: append([]Column{
		nameColumn,
		count("Desired", "Pods wanted."),
		count("Current", "Pods there are."),
		count("Ready", "Pods that are ready."),
		ageColumn,
	}, templateColumns...),
	Row: func(o object.Object, now time.Time) []any {
		r := o.(*appsv1.ReplicaSet)
		names, images := containers(r.Spec.Template.Spec)
		return []any{
			r.Name, replicas(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), ageOf(r, now),
			names, images, selectorText(r.Spec.Selector),
		}
	},
}
