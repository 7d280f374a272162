package table

import (
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// shownEndpoints is how many endpoints a cell holds.
const shownEndpoints = 3

var endpoints = Printer{
	Columns: []Column{nameColumn, text("Endpoints", "Addresses and ports behind the service."), ageColumn},
	Row: func(o object.Object, now time.Time) []any {
		return []any{o.GetName(), endpointsText(o.(*corev1.Endpoints)), ageOf(o, now)}
	},
}

func endpointsText(e *corev1.Endpoints) string {
	var all []string
	for _, sub := range e.Subsets {
		for _, a := range sub.Addresses {
			if len(sub.Ports) == 0 {
				all = append(all, a.IP)
			}
		}
		for _, p := range sub.Ports {
			for _, a := range sub.Addresses {
				all = append(all, hostPort(a.IP, p.Port))
			}
		}
	}
	if len(e.Subsets) == 0 {
		return none
	}
	return firstOf(all, shownEndpoints, ",")
}

func hostPort(ip string, port int32) string {
	if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
		return "[" + ip + "]:" + strconv.Itoa(int(port))
	}
	return ip + ":" + strconv.Itoa(int(port))
}
