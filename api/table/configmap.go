package table

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

var configMaps = Printer{
	Columns: []Column{nameColumn, text("Data", "Number of entries."), ageColumn},
	Row: func(o object.Object, now time.Time) []any {
		c := o.(*corev1.ConfigMap)
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), ageOf(c, now)}
	},
}
