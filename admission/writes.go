package admission

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/certificates"
	certificatesvalidation "k8s.io/kubernetes/pkg/apis/certificates/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"

	"reconcile/object"
)

// Write is a way to change an object: the whole of it, or by one of its subresources.
type Write struct {
	// Prepare makes o, which a client sent, what shall be stored in place of old. It changes o, which may share memory with old then.
	Prepare func(o, old object.Object, now time.Time)
	// Validate returns the faults of what Prepare made.
	Validate func(o, old object.Object) field.ErrorList
	// Status tells that it is a write of the status: the specification stays.
	Status bool

	reset []string
}

// WriteOf returns how a resource is changed by a subresource ("" for the whole object). It answers false if it is not.
func WriteOf(k object.Kind, subresource string) (Write, bool) {
	switch subresource {
	case "":
		return Write{Prepare: func(o, old object.Object, _ time.Time) {
			KeepGitOwner(o, old)
			PrepareUpdate(o, old)
		}, Validate: func(o, old object.Object) field.ErrorList { return ValidateAs(k, o, old) }}, true
	case "status":
		return Write{Prepare: PrepareStatusUpdate, Validate: ValidateStatus, Status: true}, k.Status
	}
	w, ok := ownWrites[k.Resource][subresource]
	return w, ok
}

// ownWrites are the ways to change an object by subresources that only its kind has, by resource. They are a part of the kinds' rules that stands apart
// because it asks for the others.
var ownWrites = map[string]map[string]Write{"certificatesigningrequests": requestWrites, "namespaces": namespaceWrites, "pods": podWrites}

// requestWrites are the ways to change certificate requests by subresources of their own.
var requestWrites = map[string]Write{
	"approval": {
		Prepare: prepareApproval,
		Validate: func(o, old object.Object) field.ErrorList {
			return validateWith(o, old, checks[*certificates.CertificateSigningRequest](nil, certificatesvalidation.ValidateCertificateSigningRequestApprovalUpdate, nil))
		},
		Status: true,
		reset:  []string{"spec", "status.certificate"},
	},
}

// namespaceWrites are the ways to change namespaces by subresources of their own.
var namespaceWrites = map[string]Write{
	"finalize": {
		reset: []string{"status"},
		Prepare: func(o, old object.Object, _ time.Time) {
			KeepGitOwner(o, old)
			keepMeta(o, old)
			setStatus(o, old)
			namespaceLabel(o)
		},
		Validate: func(o, old object.Object) field.ErrorList {
			return validateWith(o, old, checks(nil, validation.ValidateNamespaceFinalizeUpdate, nil))
		},
	},
}

// podWrites are the ways to change pods by subresources of their own.
var podWrites = map[string]Write{
	// A binding is served as a creation; what it makes of the pod is written by this.
	"binding": {Prepare: func(o, old object.Object, _ time.Time) {
		KeepGitOwner(o, old)
		keepMeta(o, old)
	}},
	"resize": {
		Prepare: func(o, old object.Object, _ time.Time) {
			prepareResize(o.(*corev1.Pod), old.(*corev1.Pod))
			KeepGitOwner(o, old)
			PrepareGeneration(o, old)
		},
		Validate: func(o, old object.Object) field.ErrorList {
			return validateWith(o, old, checks(nil, func(o, old *core.Pod) field.ErrorList {
				return validation.ValidatePodResize(o, old, podOptions(o, old))
			}, nil))
		},
	},
	"ephemeralcontainers": {
		Prepare: func(o, old object.Object, _ time.Time) {
			p := o.(*corev1.Pod)
			added := p.Spec.EphemeralContainers
			managed := p.ManagedFields
			*p = *old.(*corev1.Pod).DeepCopy()
			p.ManagedFields = managed
			p.Spec.EphemeralContainers = added
			KeepGitOwner(p, old)
			PrepareGeneration(p, old)
		},
		Validate: func(o, old object.Object) field.ErrorList {
			return validateWith(o, old, checks(nil, func(o, old *core.Pod) field.ErrorList {
				return validation.ValidatePodEphemeralContainersUpdate(o, old, podOptions(o, old))
			}, nil))
		},
	},
}

// prepareResize takes from p the resources of its containers and what a change of them needs, and everything else from the stored pod.
// Containers that were added, removed, moved or renamed are left for validation to refuse.
func prepareResize(p, old *corev1.Pod) {
	lists := [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers}
	managed, next := p.ManagedFields, old.DeepCopy()
	next.Spec.Resources = p.Spec.Resources
	for i, stored := range []*[]corev1.Container{&next.Spec.InitContainers, &next.Spec.Containers} {
		same := slices.EqualFunc(lists[i], *stored, func(a, b corev1.Container) bool { return a.Name == b.Name })
		if !same {
			*stored = lists[i]
			continue
		}
		for j := range *stored {
			(*stored)[j].Resources, (*stored)[j].ResizePolicy = lists[i][j].Resources, lists[i][j].ResizePolicy
		}
	}
	*p = *next
	p.ManagedFields = managed
}
