package table

import (
	"strconv"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"reconcile/object"
)

var endpointSlices = Printer{
	Columns: []Column{
		nameColumn,
		text("AddressType", "Family of the addresses."),
		text("Ports", "Ports of the endpoints."),
		text("Endpoints", "Addresses of the endpoints."),
		ageColumn,
	},
	Row: func(o object.Object, now time.Time) []any {
		s := o.(*discoveryv1.EndpointSlice)
		var nums, addrs []string
		for _, p := range s.Ports {
			switch {
			case p.Port != nil:
				nums = append(nums, strconv.Itoa(int(*p.Port)))
			case p.Name != nil:
				nums = append(nums, *p.Name)
			default:
				nums = append(nums, "*")
			}
		}
		for _, e := range s.Endpoints {
			addrs = append(addrs, e.Addresses...)
		}
		return []any{s.Name, string(s.AddressType), unset(firstOf(nums, shownEndpoints, ",")), unset(firstOf(addrs, shownEndpoints, ",")), ageOf(s, now)}
	},
}

func unset(s string) string {
	if strings.TrimSpace(s) == "" {
		return "<unset>"
	}
	return s
}
