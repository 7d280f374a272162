package table

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"reconcile/object"
)

var leases = Printer{
	Columns: []Column{nameColumn, text("Holder", "Who holds the lease."), ageColumn},
	Row: func(o object.Object, now time.Time) []any {
		holder := ""
		if h := o.(*coordinationv1.Lease).Spec.HolderIdentity; h != nil {
			holder = *h
		}
		return []any{o.GetName(), holder, ageOf(o, now)}
	},
}
