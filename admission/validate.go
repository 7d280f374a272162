package admission

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationvalidation "k8s.io/kubernetes/pkg/apis/coordination/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryvalidation "k8s.io/kubernetes/pkg/apis/discovery/validation"

	"reconcile/object"
)

// Validate returns all faults of an object, as Kubernetes' own validation finds and words them: of a creation if old is nil, of
// an update else. o must have been defaulted. Neither is changed. Kinds of our own are written by our code only and pass.
func Validate(o, old object.Object) field.ErrorList {
	return validateWith(o, old, validateCreate, validateUpdate)
}

// ValidateStatus returns the faults of an update of the status subresource.
func ValidateStatus(o, old object.Object) field.ErrorList {
	return validateWith(o, old, validateCreate, validateStatus)
}

func validateWith(o, old object.Object, create func(runtime.Object) field.ErrorList, update func(n, old runtime.Object) field.ErrorList) field.ErrorList {
	if _, ok := o.(*object.Commit); ok {
		return nil
	}
	in, err := toInternal(o)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	if old == nil {
		return create(in)
	}
	was, err := toInternal(old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	unconditional(in, was)
	return update(in, was)
}

// unconditional gives an update that names no version the version of what it replaces, as the API server does: validation
// wants one. Both are our own conversions.
func unconditional(in, was runtime.Object) {
	n, err := meta.Accessor(in)
	if err != nil || n.GetResourceVersion() != "" {
		return
	}
	version := "1"
	if o, err := meta.Accessor(was); err == nil && o.GetResourceVersion() != "" {
		version = o.GetResourceVersion()
	}
	n.SetResourceVersion(version)
}

func validateCreate(o runtime.Object) field.ErrorList {
	switch o := o.(type) {
	case *core.Pod:
		opts := pod.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, nil, &o.ObjectMeta, nil)
		opts.ResourceIsPod = true
		return validation.ValidatePodCreate(o, opts)
	case *core.Service:
		return validation.ValidateServiceCreate(o)
	case *core.Namespace:
		return validation.ValidateNamespace(o)
	case *core.Node:
		return validation.ValidateNode(o)
	case *core.Endpoints:
		return validation.ValidateEndpointsCreate(o)
	case *core.ConfigMap:
		return validation.ValidateConfigMap(o)
	case *core.Secret:
		return validation.ValidateSecret(o)
	case *core.Event:
		return validation.ValidateEventCreate(o, corev1.SchemeGroupVersion)
	case *apps.Deployment:
		return appsvalidation.ValidateDeployment(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	case *apps.ReplicaSet:
		return appsvalidation.ValidateReplicaSet(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	case *discovery.EndpointSlice:
		return discoveryvalidation.ValidateEndpointSliceCreate(o)
	case *coordination.Lease:
		return coordinationvalidation.ValidateLease(o)
	}
	return nil
}

func validateUpdate(o, old runtime.Object) field.ErrorList {
	switch o := o.(type) {
	case *core.Pod:
		was := old.(*core.Pod)
		opts := pod.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, &was.Spec, &o.ObjectMeta, &was.ObjectMeta)
		opts.ResourceIsPod = true
		return validation.ValidatePodUpdate(o, was, opts)
	case *core.Service:
		return validation.ValidateServiceUpdate(o, old.(*core.Service))
	case *core.Namespace:
		return append(validation.ValidateNamespace(o), validation.ValidateNamespaceUpdate(o, old.(*core.Namespace))...)
	case *core.Node:
		return append(validation.ValidateNode(o), validation.ValidateNodeUpdate(o, old.(*core.Node))...)
	case *core.Endpoints:
		return validation.ValidateEndpointsUpdate(o, old.(*core.Endpoints))
	case *core.ConfigMap:
		return validation.ValidateConfigMapUpdate(o, old.(*core.ConfigMap))
	case *core.Secret:
		return validation.ValidateSecretUpdate(o, old.(*core.Secret))
	case *core.Event:
		return validation.ValidateEventUpdate(o, old.(*core.Event), corev1.SchemeGroupVersion)
	case *apps.Deployment:
		was := old.(*apps.Deployment)
		opts := pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &was.Spec.Template)
		return appsvalidation.ValidateDeploymentUpdate(o, was, opts)
	case *apps.ReplicaSet:
		was := old.(*apps.ReplicaSet)
		opts := pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &was.Spec.Template)
		return appsvalidation.ValidateReplicaSetUpdate(o, was, opts)
	case *discovery.EndpointSlice:
		return discoveryvalidation.ValidateEndpointSliceUpdate(o, old.(*discovery.EndpointSlice))
	case *coordination.Lease:
		return coordinationvalidation.ValidateLeaseUpdate(o, old.(*coordination.Lease))
	}
	return nil
}

func validateStatus(o, old runtime.Object) field.ErrorList {
	switch o := o.(type) {
	case *core.Pod:
		was := old.(*core.Pod)
		opts := pod.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, &was.Spec, &o.ObjectMeta, &was.ObjectMeta)
		opts.ResourceIsPod = true
		return validation.ValidatePodStatusUpdate(o, was, opts)
	case *core.Service:
		return validation.ValidateServiceStatusUpdate(o, old.(*core.Service))
	case *core.Namespace:
		return validation.ValidateNamespaceStatusUpdate(o, old.(*core.Namespace))
	case *core.Node:
		return validation.ValidateNodeUpdate(o, old.(*core.Node))
	case *apps.Deployment:
		return appsvalidation.ValidateDeploymentStatusUpdate(o, old.(*apps.Deployment))
	case *apps.ReplicaSet:
		return appsvalidation.ValidateReplicaSetStatusUpdate(o, old.(*apps.ReplicaSet))
	}
	return validateUpdate(o, old)
}
