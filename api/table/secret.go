package table

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

var secrets = Printer{
	Columns: []Column{nameColumn, text("Type", "What the secret is for."), text("Data", "Number of entries."), ageColumn},
	Row: func(o object.Object, now time.Time) []any {
		s := o.(*corev1.Secret)
		return []any{s.Name, string(s.Type), int64(len(s.Data)), ageOf(s, now)}
	},
}
