package admission

import (
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/node"
	apistorage "k8s.io/kubernetes/pkg/api/storage"
	certificatesvalidation "k8s.io/kubernetes/pkg/apis/certificates/validation"
	coordinationvalidation "k8s.io/kubernetes/pkg/apis/coordination/validation"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"
	"k8s.io/kubernetes/pkg/apis/flowcontrol"
	flowcontrolvalidation "k8s.io/kubernetes/pkg/apis/flowcontrol/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	nodeapi "k8s.io/kubernetes/pkg/apis/node"
	nodevalidation "k8s.io/kubernetes/pkg/apis/node/validation"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
	schedulingvalidation "k8s.io/kubernetes/pkg/apis/scheduling/validation"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagevalidation "k8s.io/kubernetes/pkg/apis/storage/validation"

	"reconcile/object"
)

// clusterRules are the rules of networks, rights, storage and what else serves the workloads, by resource.
var clusterRules = map[string]rules{
	"certificatesigningrequests": csrRules(),
	"endpointslices": checks(discoveryvalidation.ValidateEndpointSliceCreate, discoveryvalidation.ValidateEndpointSliceUpdate, nil).
		counted().growing(sliceChanged),
	"leases": checks(coordinationvalidation.ValidateLease, coordinationvalidation.ValidateLeaseUpdate, nil).creates().needsVersion(),

	"flowschemas": checks(flowcontrolvalidation.ValidateFlowSchema, turned(flowcontrolvalidation.ValidateFlowSchemaUpdate),
		turned(flowcontrolvalidation.ValidateFlowSchemaStatusUpdate)).counted().strict(),
	"prioritylevelconfigurations": checks(validatePriorityLevel, func(o, _ *flowcontrol.PriorityLevelConfiguration) field.ErrorList { return validatePriorityLevel(o) },
		turned(flowcontrolvalidation.ValidatePriorityLevelConfigurationStatusUpdate)).counted().strict(),

	"ingresses":      checks(networkingvalidation.ValidateIngressCreate, networkingvalidation.ValidateIngressUpdate, networkingvalidation.ValidateIngressStatusUpdate).counted(),
	"ingressclasses": checks(networkingvalidation.ValidateIngressClass, networkingvalidation.ValidateIngressClassUpdate, nil).counted(),
	"ipaddresses":    checks(networkingvalidation.ValidateIPAddress, networkingvalidation.ValidateIPAddressUpdate, nil),
	"networkpolicies": checks(func(o *networking.NetworkPolicy) field.ErrorList {
		return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.ValidationOptionsForNetworking(o, nil))
	}, func(o, old *networking.NetworkPolicy) field.ErrorList {
		return networkingvalidation.ValidateNetworkPolicyUpdate(o, old, networkingvalidation.ValidationOptionsForNetworking(o, old))
	}, nil).counted(),
	"servicecidrs": checks(networkingvalidation.ValidateServiceCIDR, networkingvalidation.ValidateServiceCIDRUpdate, networkingvalidation.ValidateServiceCIDRStatusUpdate).strict(),

	"runtimeclasses": warns(checks(nodevalidation.ValidateRuntimeClass, both(nodevalidation.ValidateRuntimeClass, nodevalidation.ValidateRuntimeClassUpdate), nil).creates().needsVersion(),
		func(o, _ *nodeapi.RuntimeClass) []string { return node.GetWarningsForRuntimeClass(o) }),

	"clusterroles": checks(func(o *rbac.ClusterRole) field.ErrorList {
		return rbacvalidation.ValidateClusterRole(o, rbacvalidation.ClusterRoleValidationOptions{})
	}, func(o, old *rbac.ClusterRole) field.ErrorList {
		return rbacvalidation.ValidateClusterRoleUpdate(o, old, rbacvalidation.ClusterRoleValidationOptions{AllowInvalidLabelValueInSelector: badAggregation(old)})
	}, nil).creates(),
	"clusterrolebindings": checks(rbacvalidation.ValidateClusterRoleBinding, rbacvalidation.ValidateClusterRoleBindingUpdate, nil).creates(),
	"roles":               checks(rbacvalidation.ValidateRole, rbacvalidation.ValidateRoleUpdate, nil).creates(),
	"rolebindings":        checks(rbacvalidation.ValidateRoleBinding, rbacvalidation.ValidateRoleBindingUpdate, nil).creates(),

	"priorityclasses": checks(schedulingvalidation.ValidatePriorityClass, schedulingvalidation.ValidatePriorityClassUpdate, nil).counted().growing(never),

	"csidrivers": checks(storagevalidation.ValidateCSIDriver, storagevalidation.ValidateCSIDriverUpdate, nil).needsVersion(),
	"csinodes":   checks(storagevalidation.ValidateCSINode, storagevalidation.ValidateCSINodeUpdate, nil).needsVersion(),
	"csistoragecapacities": warns(checks(func(o *storage.CSIStorageCapacity) field.ErrorList {
		return storagevalidation.ValidateCSIStorageCapacity(o, storagevalidation.CSIStorageCapacityValidateOptions{})
	}, func(o, old *storage.CSIStorageCapacity) field.ErrorList {
		opts := storagevalidation.CSIStorageCapacityValidateOptions{AllowInvalidLabelValueInSelector: metavalidation.LabelSelectorHasInvalidLabelValue(old.NodeTopology)}
		return append(storagevalidation.ValidateCSIStorageCapacity(o, opts), storagevalidation.ValidateCSIStorageCapacityUpdate(o, old)...)
	}, nil).needsVersion(), func(o, _ *storage.CSIStorageCapacity) []string { return apistorage.GetWarningsForCSIStorageCapacity(o) }),
	"storageclasses": warns(checks(storagevalidation.ValidateStorageClass, both(storagevalidation.ValidateStorageClass, storagevalidation.ValidateStorageClassUpdate), nil),
		func(o, _ *storage.StorageClass) []string { return apistorage.GetWarningsForStorageClass(o) }),
	"volumeattachments":       checks(storagevalidation.ValidateVolumeAttachment, storagevalidation.ValidateVolumeAttachmentUpdate, nil).strict().needsVersion(),
	"volumeattributesclasses": checks(storagevalidation.ValidateVolumeAttributesClass, storagevalidation.ValidateVolumeAttributesClassUpdate, nil),
}

// strict makes writes of the kind's status keep all metadata.
func (r rules) strict() rules { r.strictStatus, r.statusKeeps = true, []string{"metadata"}; return r }

// turned is for the validations that take the old object first.
func turned[T any](f func(old, o T) field.ErrorList) func(o, old T) field.ErrorList {
	return func(o, old T) field.ErrorList { return f(old, o) }
}

func validatePriorityLevel(o *flowcontrol.PriorityLevelConfiguration) field.ErrorList {
	return flowcontrolvalidation.ValidatePriorityLevelConfiguration(o, flowcontrolv1.SchemeGroupVersion, flowcontrolvalidation.PriorityLevelValidationOptions{})
}

func never(object.Object, object.Object) bool { return false }

// sliceChanged tells whether anything but the metadata of an endpoint slice changed, or its labels.
func sliceChanged(o, old object.Object) bool {
	n, was := *o.(*discoveryv1.EndpointSlice), *old.(*discoveryv1.EndpointSlice)
	n.ObjectMeta, was.ObjectMeta = metav1.ObjectMeta{Labels: n.Labels}, metav1.ObjectMeta{Labels: was.Labels}
	n.TypeMeta, was.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{}
	return !equal(n, was)
}

func badAggregation(r *rbac.ClusterRole) bool {
	if r.AggregationRule == nil {
		return false
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		if metavalidation.LabelSelectorHasInvalidLabelValue(&r.AggregationRule.ClusterRoleSelectors[i]) {
			return true
		}
	}
	return false
}

// csrRules: who asks is written by the server, the request itself never changes, and approval is a write of the status that no
// other writer of it may undo.
func csrRules() rules {
	r := checks(certificatesvalidation.ValidateCertificateSigningRequestCreate, certificatesvalidation.ValidateCertificateSigningRequestUpdate,
		certificatesvalidation.ValidateCertificateSigningRequestStatusUpdate)
	r.named = func(o object.Object, user string, groups []string) {
		spec := &o.(*certificatesv1.CertificateSigningRequest).Spec
		spec.Username, spec.Groups, spec.UID, spec.Extra = user, groups, "", nil
	}
	r.keep = func(o, old object.Object) {
		o.(*certificatesv1.CertificateSigningRequest).Spec = old.(*certificatesv1.CertificateSigningRequest).Spec
	}
	r.updateKeeps, r.statusKeeps = []string{"spec"}, []string{"status.conditions"}
	r.keepStatus = func(o, old object.Object, now time.Time) {
		n, was := o.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest)
		stampConditions(n, was, metav1.NewTime(now.Truncate(time.Second)))
	}
	return r
}

// stampConditions gives a request's conditions their times.
func stampConditions(o, old *certificatesv1.CertificateSigningRequest, now metav1.Time) {
	for i := range o.Status.Conditions {
		c := &o.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, was := range old.Status.Conditions {
			if was.Type == c.Type && was.Status == c.Status && !was.LastTransitionTime.IsZero() {
				c.LastTransitionTime = was.LastTransitionTime
				break
			}
		}
	}
}

// prepareApproval makes a write of a request's approval ready: of the status only the conditions are taken from o.
func prepareApproval(o, old object.Object, now time.Time) {
	n, was := o.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest)
	conditions := n.Status.Conditions
	keepMeta(n, was)
	n.Spec, n.Status = was.Spec, was.Status
	n.Status.Conditions = conditions
	KeepGitOwner(n, was)
	stampConditions(n, was, metav1.NewTime(now.Truncate(time.Second)))
}
