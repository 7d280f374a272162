package table

import (
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"reconcile/object"
)

// flowPrinters print what orders the requests to Kubernetes' API server.
var flowPrinters = map[string]Printer{
	"flowschemas": {
		Columns: []Column{
			nameColumn, text("PriorityLevel", "Level that the requests are given."), text("MatchingPrecedence", "Lower ones are looked at first."),
			text("DistinguisherMethod", "What tells flows apart."), ageColumn, text("MissingPL", "Whether there is no such level."),
		},
		Row: func(o object.Object, now time.Time) []any {
			s, method, dangling := o.(*flowcontrolv1.FlowSchema), "<none>", "?"
			if m := s.Spec.DistinguisherMethod; m != nil {
				method = string(m.Type)
			}
			for _, c := range s.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					dangling = string(c.Status)
					break
				}
			}
			return []any{s.Name, s.Spec.PriorityLevelConfiguration.Name, int64(s.Spec.MatchingPrecedence), method, ageOf(s, now), dangling}
		},
	},
	"prioritylevelconfigurations": {
		Columns: []Column{
			nameColumn, text("Type", "Whether requests are limited."), text("NominalConcurrencyShares", "Share of the requests that are served at once."),
			text("Queues", "Queues of the level."), text("HandSize", "Queues that a flow may stand in."), text("QueueLengthLimit", "Requests that a queue may hold."), ageColumn,
		},
		Row: func(o object.Object, now time.Time) []any {
			p := o.(*flowcontrolv1.PriorityLevelConfiguration)
			var shares, queues, hand, length any = "<none>", "<none>", "<none>", "<none>"
			if l := p.Spec.Limited; l != nil {
				shares = int32(0)
				if l.NominalConcurrencyShares != nil {
					shares = *l.NominalConcurrencyShares
				}
				if q := l.LimitResponse.Queuing; q != nil {
					queues, hand, length = q.Queues, q.HandSize, q.QueueLengthLimit
				}
			}
			return []any{p.Name, string(p.Spec.Type), shares, queues, hand, length, ageOf(p, now)}
		},
	},
}
