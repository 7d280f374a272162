package table

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

var services = Printer{
	Columns: []Column{
		nameColumn,
		text("Type", "How the service is reached."),
		text("Cluster-IP", "Address within the cluster."),
		text("External-IP", "Addresses outside the cluster."),
		text("Port(s)", "Ports, with the node's port behind a colon."),
		ageColumn,
		wide(text("Selector", "Labels of the pods behind the service.")),
	},
	Row: func(o object.Object, now time.Time) []any {
		s := o.(*corev1.Service)
		return []any{
			s.Name, string(s.Spec.Type), clusterIP(s), externalIP(s), orNone(ports(s.Spec.Ports)), ageOf(s, now),
			labels.FormatLabels(s.Spec.Selector),
		}
	},
}

func clusterIP(s *corev1.Service) string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs[0]
	}
	return none
}

func externalIP(s *corev1.Service) string {
	list := s.Spec.ExternalIPs
	switch s.Spec.Type {
	default:
		return unknown
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var balanced []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				balanced = append(balanced, in.IP)
			} else if in.Hostname != "" {
				balanced = append(balanced, in.Hostname)
			}
		}
		slices.Sort(balanced)
		balanced = slices.Compact(balanced)
		list = append(balanced, list...)
		if len(list) == 0 {
			return "<pending>"
		}
	}
	return orNone(strings.Join(list, ","))
}

func ports(list []corev1.ServicePort) string {
	var out []string
	for _, p := range list {
		if p.NodePort > 0 {
			out = append(out, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			out = append(out, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return strings.Join(out, ",")
}
