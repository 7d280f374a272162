package table

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

var namespaces = Printer{
	Columns: []Column{nameColumn, text("Status", "Whether the namespace is active or being deleted."), ageColumn},
	Row: func(o object.Object, now time.Time) []any {
		return []any{o.GetName(), string(o.(*corev1.Namespace).Status.Phase), ageOf(o, now)}
	},
}
