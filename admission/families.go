package admission

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/object"
)

// settleFamilies fills in a service's families of addresses and their policy, and returns what of those that it asks for a cluster with IPv4 addresses
// alone does not have, in Kubernetes' words. What is stored already stays as it is.
func settleFamilies(svc *corev1.Service, old object.Object) field.ErrorList {
	s, path := &svc.Spec, field.NewPath("spec")
	was, _ := old.(*corev1.Service)
	free := addressesAreTold(svc)
	if was != nil && was.Spec.IPFamilyPolicy != nil && addressesAreTold(was) == free && equal(was.Spec.IPFamilyPolicy, s.IPFamilyPolicy) &&
		slices.Equal(was.Spec.IPFamilies, s.IPFamilies) && slices.Equal(was.Spec.ClusterIPs, s.ClusterIPs) {
		return nil
	}
	if s.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if free {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		s.IPFamilyPolicy = &policy
	}
	single := *s.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	var faults field.ErrorList
	if single && len(s.ClusterIPs) == 2 {
		faults = append(faults, field.Invalid(path.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if single && len(s.IPFamilies) == 2 {
		faults = append(faults, field.Invalid(path.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	for i, text := range s.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Is6() && i >= len(s.IPFamilies) {
			faults = append(faults, field.Invalid(path.Child("clusterIPs").Index(i), s.ClusterIPs, "IPv6 is not configured on this cluster"))
		}
	}
	if len(faults) > 0 {
		return faults
	}
	if free {
		s.IPFamilies = anyFamilies(s.IPFamilies, single)
		return nil
	}
	if *s.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack {
		faults = append(faults, field.Invalid(path.Child("ipFamilyPolicy"), s.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.IPFamilies {
		if f != corev1.IPv4Protocol {
			faults = append(faults, field.Invalid(path.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	if len(s.IPFamilies) == 0 {
		s.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return faults
}

// addressesAreTold tells whether a service wants no address and names no pods: who made it tells the addresses, of any family.
func addressesAreTold(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone && len(s.Spec.Selector) == 0
}

// anyFamilies are those of a service whose addresses the cluster does not give: both, but where one was asked for.
func anyFamilies(asked []corev1.IPFamily, single bool) []corev1.IPFamily {
	switch {
	case single && len(asked) == 0:
		return []corev1.IPFamily{corev1.IPv4Protocol}
	case single || len(asked) > 1:
		return asked
	case len(asked) == 1 && asked[0] == corev1.IPv6Protocol:
		return []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}
