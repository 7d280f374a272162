package object

import (
	networkingv1 "k8s.io/api/networking/v1"
)

// networkingKinds are the kinds of the group networking.
var networkingKinds = []Kind{
	{GVK: networkingv1.SchemeGroupVersion.WithKind("Ingress"), Resource: "ingresses", Singular: "ingress", ShortNames: []string{"ing"},
		Namespaced: true, FromGit: true, Dormant: true, Status: true, make: of[networkingv1.Ingress]},
	{GVK: networkingv1.SchemeGroupVersion.WithKind("IngressClass"), Resource: "ingressclasses", Singular: "ingressclass",
		FromGit: true, Dormant: true, make: of[networkingv1.IngressClass]},
	{GVK: networkingv1.SchemeGroupVersion.WithKind("IPAddress"), Resource: "ipaddresses", Singular: "ipaddress", ShortNames: []string{"ip"},
		make: of[networkingv1.IPAddress]},
	{GVK: networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), Resource: "networkpolicies", Singular: "networkpolicy", ShortNames: []string{"netpol"},
		Namespaced: true, FromGit: true, Dormant: true, make: of[networkingv1.NetworkPolicy]},
	{GVK: networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"), Resource: "servicecidrs", Singular: "servicecidr",
		Status: true, make: of[networkingv1.ServiceCIDR]},
}
