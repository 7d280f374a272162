package table

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"reconcile/object"
)

// created is the printer of kinds that Kubernetes gives no columns of their own.
var created = Printer{
	Columns: []Column{nameColumn, {Name: "Created At", Type: "date", Description: "When the object was created."}},
	Row: func(o object.Object, _ time.Time) []any {
		return []any{o.GetName(), o.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	},
}

var bindingColumns = []Column{
	nameColumn, text("Role", "Role that is given."), ageColumn,
	wide(text("Users", "Users to whom it is given.")), wide(text("Groups", "Groups to whom it is given.")),
	wide(text("ServiceAccounts", "Service accounts to whom it is given.")),
}

// clusterPrinters print networks, rights and what else serves the workloads.
var clusterPrinters = map[string]Printer{
	"certificatesigningrequests": {
		Columns: []Column{nameColumn, ageColumn, text("SignerName", "Who is asked to sign."), text("Requestor", "Who asks."),
			text("RequestedDuration", "For how long."), text("Condition", "What became of it.")},
		Row: func(o object.Object, now time.Time) []any {
			c, life := o.(*certificatesv1.CertificateSigningRequest), none
			if n := c.Spec.ExpirationSeconds; n != nil {
				life = duration.HumanDuration(time.Duration(*n) * time.Second)
			}
			return []any{c.Name, ageOf(c, now), orNone(c.Spec.SignerName), c.Spec.Username, life, requestStatus(c)}
		},
	},
	"clusterroles": created,
	"clusterrolebindings": {Columns: bindingColumns, Row: func(o object.Object, now time.Time) []any {
		b := o.(*rbacv1.ClusterRoleBinding)
		return bindingRow(b, b.RoleRef, b.Subjects, now)
	}},
	"ingresses": {
		Columns: []Column{nameColumn, text("Class", "Ingress class."), text("Hosts", "Names that are routed."), text("Address", "Where it is reached."),
			text("Ports", "Ports that are open."), ageColumn},
		Row: ingressRow,
	},
	"ingressclasses": {
		Columns: []Column{nameColumn, text("Controller", "Who implements the class."), text("Parameters", "Object with more parameters."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			c, name, params := o.(*networkingv1.IngressClass), o.GetName(), none
			if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
				name += " (default)"
			}
			if p := c.Spec.Parameters; p != nil {
				params = p.Kind
				if p.APIGroup != nil {
					params += "." + *p.APIGroup
				}
				params += "/" + p.Name
			}
			return []any{name, c.Spec.Controller, params, ageOf(c, now)}
		},
	},
	"ipaddresses": {
		Columns: []Column{nameColumn, text("ParentRef", "Object that has the address."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			a, parent := o.(*networkingv1.IPAddress), none
			if p := a.Spec.ParentRef; p != nil {
				parts := []string{strings.ToLower(schema.GroupResource{Group: p.Group, Resource: p.Resource}.String())}
				if p.Namespace != "" {
					parts = append(parts, p.Namespace)
				}
				parent = strings.Join(append(parts, p.Name), "/")
			}
			return []any{a.Name, parent, ageOf(a, now)}
		},
	},
	"limitranges": created,
	"networkpolicies": {
		Columns: []Column{nameColumn, text("Pod-Selector", "Pods that are meant."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			return []any{o.GetName(), metav1.FormatLabelSelector(&o.(*networkingv1.NetworkPolicy).Spec.PodSelector), ageOf(o, now)}
		},
	},
	"priorityclasses": {
		Columns: []Column{nameColumn, count("Value", "The greater, the earlier."), {Name: "Global-Default", Type: "boolean", Description: "Whether pods without a class have it."},
			ageColumn, text("PreemptionPolicy", "Whether others make room.")},
		Row: func(o object.Object, now time.Time) []any {
			p, policy := o.(*schedulingv1.PriorityClass), ""
			if p.PreemptionPolicy != nil {
				policy = string(*p.PreemptionPolicy)
			}
			return []any{p.Name, int64(p.Value), p.GlobalDefault, ageOf(p, now), policy}
		},
	},
	"resourcequotas": {
		Columns: []Column{nameColumn, text("Request", "Use of what is limited by request."), text("Limit", "Use of what is limited by limit."), ageColumn},
		Row:     quotaRow,
	},
	"roles": created,
	"rolebindings": {Columns: bindingColumns, Row: func(o object.Object, now time.Time) []any {
		b := o.(*rbacv1.RoleBinding)
		return bindingRow(b, b.RoleRef, b.Subjects, now)
	}},
	"runtimeclasses": {
		Columns: []Column{nameColumn, text("Handler", "Runtime that is meant."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			return []any{o.GetName(), o.(*nodev1.RuntimeClass).Handler, ageOf(o, now)}
		},
	},
	"serviceaccounts": plain,
	"servicecidrs": {
		Columns: []Column{nameColumn, text("CIDRs", "Ranges of addresses."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			return []any{o.GetName(), strings.Join(o.(*networkingv1.ServiceCIDR).Spec.CIDRs, ","), ageOf(o, now)}
		},
	},
}

func requestStatus(c *certificatesv1.CertificateSigningRequest) string {
	has := func(t certificatesv1.RequestConditionType) bool {
		return slices.ContainsFunc(c.Status.Conditions, func(have certificatesv1.CertificateSigningRequestCondition) bool { return have.Type == t })
	}
	word := "Pending"
	switch {
	case has(certificatesv1.CertificateDenied):
		word = "Denied"
	case has(certificatesv1.CertificateApproved):
		word = "Approved"
	}
	if has(certificatesv1.CertificateFailed) {
		word += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		word += ",Issued"
	}
	return word
}

func bindingRow(o object.Object, ref rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			name := s.Name
			if s.Namespace != "" {
				name = s.Namespace + "/" + s.Name
			}
			accounts = append(accounts, name)
		}
	}
	return []any{o.GetName(), ref.Kind + "/" + ref.Name, ageOf(o, now), strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}

func ingressRow(o object.Object, now time.Time) []any {
	i, class, ports := o.(*networkingv1.Ingress), none, "80"
	if i.Spec.IngressClassName != nil {
		class = *i.Spec.IngressClassName
	}
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	var hosts, at []string
	for _, r := range i.Spec.Rules {
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	for _, a := range i.Status.LoadBalancer.Ingress {
		if name := cmp.Or(a.IP, a.Hostname); name != "" && !slices.Contains(at, name) {
			at = append(at, name)
		}
	}
	slices.Sort(at)
	shown := "*"
	if len(hosts) > 0 {
		shown = firstOf(hosts, 3, ",")
	}
	return []any{i.Name, class, shown, strings.Join(at, ","), ports, ageOf(i, now)}
}

func quotaRow(o object.Object, now time.Time) []any {
	q := o.(*corev1.ResourceQuota)
	var names, requests, limits []string
	for n := range q.Status.Hard {
		names = append(names, string(n))
	}
	slices.Sort(names)
	for _, n := range names {
		used, hard := q.Status.Used[corev1.ResourceName(n)], q.Status.Hard[corev1.ResourceName(n)]
		line := fmt.Sprintf("%s: %s/%s", n, used.String(), hard.String())
		if strings.HasPrefix(n, "limits.") {
			limits = append(limits, line)
		} else {
			requests = append(requests, line)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), ageOf(q, now)}
}
