package admission

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/persistentvolume"
	"k8s.io/kubernetes/pkg/api/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/api/pod"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	volumevalidation "k8s.io/kubernetes/pkg/volume/validation"

	"reconcile/object"
)

// coreRules are the rules of the core group's kinds, by resource.
var coreRules = map[string]rules{
	"configmaps": checks(validation.ValidateConfigMap, validation.ValidateConfigMapUpdate, nil),
	"endpoints":  checks(validation.ValidateEndpointsCreate, validation.ValidateEndpointsUpdate, nil).creates(),
	"events": checks(func(o *core.Event) field.ErrorList {
		return validation.ValidateEventCreate(o, corev1.SchemeGroupVersion)
	},
		func(o, old *core.Event) field.ErrorList {
			return validation.ValidateEventUpdate(o, old, corev1.SchemeGroupVersion)
		}, nil).creates(),
	"limitranges": checks(validation.ValidateLimitRange, func(o, _ *core.LimitRange) field.ErrorList { return validation.ValidateLimitRange(o) }, nil).creates(),
	"namespaces":  namespaceRules(),
	"nodes":       nodeRules(),

	"persistentvolumes":      volumeRules(),
	"persistentvolumeclaims": claimRules(),
	"pods":                   podRules(),
	"podtemplates": warns(checks(func(o *core.PodTemplate) field.ErrorList {
		return validation.ValidatePodTemplate(o, pod.GetValidationOptionsFromPodTemplate(&o.Template, nil))
	}, func(o, old *core.PodTemplate) field.ErrorList {
		return validation.ValidatePodTemplateUpdate(o, old, pod.GetValidationOptionsFromPodTemplate(&o.Template, &old.Template))
	}, nil).counted().growing(func(o, old object.Object) bool {
		return !equal(o.(*corev1.PodTemplate).Template, old.(*corev1.PodTemplate).Template)
	}), warnOfTemplate(field.NewPath("template"), func(o *core.PodTemplate) *core.PodTemplateSpec { return &o.Template })),
	"replicationcontrollers": warns(checks(func(o *core.ReplicationController) field.ErrorList {
		return validation.ValidateReplicationController(o, pod.GetValidationOptionsFromPodTemplate(o.Spec.Template, nil))
	}, func(o, old *core.ReplicationController) field.ErrorList {
		return validation.ValidateReplicationControllerUpdate(o, old, pod.GetValidationOptionsFromPodTemplate(o.Spec.Template, old.Spec.Template))
	}, validation.ValidateReplicationControllerStatusUpdate).counted(), allWarnings(hostNamed, warnOfSpecTemplate(func(o *core.ReplicationController) *core.PodTemplateSpec { return o.Spec.Template }))),
	"resourcequotas":  checks(validation.ValidateResourceQuota, validation.ValidateResourceQuotaUpdate, validation.ValidateResourceQuotaStatusUpdate),
	"secrets":         secretRules(),
	"services":        serviceRules(),
	"serviceaccounts": checks(validation.ValidateServiceAccount, validation.ValidateServiceAccountUpdate, nil),
}

// versionRules are the rules of versions that are not the stored one and have rules of their own.
var versionRules = map[schema.GroupVersionKind]rules{
	eventsv1.SchemeGroupVersion.WithKind("Event"): checks(func(o *core.Event) field.ErrorList {
		return validation.ValidateEventCreate(o, eventsv1.SchemeGroupVersion)
	},
		func(o, old *core.Event) field.ErrorList {
			return validation.ValidateEventUpdate(o, old, eventsv1.SchemeGroupVersion)
		}, nil),
}

// growing says when the generation grows, where that is not with the specification.
func (r rules) growing(f func(o, old object.Object) bool) rules { r.grows = f; return r }

func namespaceRules() rules {
	r := checks(validation.ValidateNamespace, both(validation.ValidateNamespace, validation.ValidateNamespaceUpdate), validation.ValidateNamespaceStatusUpdate)
	r.begin = func(o object.Object, _ time.Time) {
		ns := o.(*corev1.Namespace)
		ns.Status.Phase = corev1.NamespaceActive
		if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
			ns.Spec.Finalizers = append(slices.Clip(ns.Spec.Finalizers), corev1.FinalizerKubernetes)
		}
	}
	r.always = namespaceLabel
	r.keep = func(o, old object.Object) {
		o.(*corev1.Namespace).Spec.Finalizers = old.(*corev1.Namespace).Spec.Finalizers
	}
	return r
}

func nodeRules() rules {
	r := checks(validation.ValidateNode, both(validation.ValidateNode, validation.ValidateNodeUpdate), validation.ValidateNodeUpdate)
	r.bornWithStatus, r.reportsMeta = true, true
	r.begin = func(o object.Object, _ time.Time) {
		// What runs on it is not known to be ready before its agent says so; a controller takes the taint away.
		n := o.(*corev1.Node)
		if !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
			return t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule
		}) {
			n.Spec.Taints = append(slices.Clip(n.Spec.Taints), corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	r.keepStatus = func(o, _ object.Object, _ time.Time) {
		if st := &o.(*corev1.Node).Status; st.Allocatable == nil {
			st.Allocatable = maps.Clone(st.Capacity)
		}
	}
	return r
}

func podRules() rules {
	r := checks(func(o *core.Pod) field.ErrorList {
		return validation.ValidatePodCreate(o, podOptions(o, nil))
	}, func(o, old *core.Pod) field.ErrorList {
		return validation.ValidatePodUpdate(o, old, podOptions(o, old))
	}, func(o, old *core.Pod) field.ErrorList {
		return validation.ValidatePodStatusUpdate(o, old, podOptions(o, old))
	}).counted()
	r.begin = func(o object.Object, now time.Time) {
		p := o.(*corev1.Pod)
		defaultTolerations(p)
		p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qos.ComputePodQOS(p)}
		gate(p, now)
	}
	r.keep = func(o, old object.Object) {
		keepPriority(o.(*corev1.Pod), old.(*corev1.Pod))
		defaultTolerations(o.(*corev1.Pod))
	}
	r.keepStatus = func(o, old object.Object, _ time.Time) {
		p := o.(*corev1.Pod)
		p.OwnerReferences = old.GetOwnerReferences()
		if p.Status.QOSClass == "" {
			p.Status.QOSClass = old.(*corev1.Pod).Status.QOSClass
		}
	}
	r.statusKeeps = []string{"metadata.deletionTimestamp", "metadata.ownerReferences"}
	r.finish, r.countsClients = finishPod, true
	return warns(r, warnOfPod)
}

// gate says in a new pod's status that its gates keep it from being placed.
func gate(p *corev1.Pod, now time.Time) {
	if len(p.Spec.SchedulingGates) == 0 {
		return
	}
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated,
		Message: "Scheduling is blocked due to non-empty scheduling gates", LastTransitionTime: metav1.NewTime(now.Truncate(time.Second))})
}

func podOptions(o, old *core.Pod) validation.PodValidationOptions {
	var (
		spec *core.PodSpec
		meta *metav1.ObjectMeta
	)
	if old != nil {
		spec, meta = &old.Spec, &old.ObjectMeta
	}
	opts := pod.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, spec, &o.ObjectMeta, meta)
	opts.ResourceIsPod = true
	return opts
}

func secretRules() rules {
	r := checks(validation.ValidateSecret, validation.ValidateSecretUpdate, nil)
	r.keep = func(o, old object.Object) {
		if s := o.(*corev1.Secret); s.Type == "" {
			s.Type = old.(*corev1.Secret).Type
		}
	}
	return r
}

func serviceRules() rules {
	r := checks(func(o *core.Service) field.ErrorList {
		assumeHealthPort(o, nil)
		return validation.ValidateServiceCreate(o)
	}, func(o, old *core.Service) field.ErrorList {
		assumeHealthPort(o, old)
		return validation.ValidateServiceUpdate(o, old)
	}, validation.ValidateServiceStatusUpdate).creates()
	r.begin = func(o object.Object, _ time.Time) {
		if s := &o.(*corev1.Service).Spec; s.ClusterIP != "" && len(s.ClusterIPs) == 0 {
			s.ClusterIPs = []string{s.ClusterIP}
		}
	}
	r.keep = func(o, old object.Object) {
		keepServiceAddress(o.(*corev1.Service), old.(*corev1.Service))
		dropBalancer(o.(*corev1.Service))
	}
	return warns(r, serviceapi.GetWarningsForService)
}

// protect gives new storage the finalizer by which it stays as long as it is used; a controller takes it away.
func protect(o object.Object, finalizer string) {
	if !slices.Contains(o.GetFinalizers(), finalizer) {
		o.SetFinalizers(append(slices.Clip(o.GetFinalizers()), finalizer))
	}
}

func volumeRules() rules {
	create := func(o *core.PersistentVolume) field.ErrorList {
		return append(validation.ValidatePersistentVolume(o, validation.ValidationOptionsForPersistentVolume(o, nil)), volumevalidation.ValidatePersistentVolume(o)...)
	}
	r := checks(create, func(o, old *core.PersistentVolume) field.ErrorList {
		opts := validation.ValidationOptionsForPersistentVolume(o, old)
		faults := append(validation.ValidatePersistentVolume(o, opts), volumevalidation.ValidatePersistentVolume(o)...)
		return append(faults, validation.ValidatePersistentVolumeUpdate(o, old, opts)...)
	}, validation.ValidatePersistentVolumeStatusUpdate)
	r.begin = func(o object.Object, now time.Time) {
		at := metav1.NewTime(now.Truncate(time.Second))
		protect(o, "kubernetes.io/pv-protection")
		o.(*corev1.PersistentVolume).Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &at}
	}
	r.keepStatus = func(o, old object.Object, now time.Time) {
		st, was := &o.(*corev1.PersistentVolume).Status, old.(*corev1.PersistentVolume).Status
		switch {
		case st.Phase == was.Phase && st.LastPhaseTransitionTime == nil:
			st.LastPhaseTransitionTime = was.LastPhaseTransitionTime
		case st.Phase != was.Phase && (st.LastPhaseTransitionTime == nil || st.LastPhaseTransitionTime.Equal(was.LastPhaseTransitionTime)):
			at := metav1.NewTime(now.Truncate(time.Second))
			st.LastPhaseTransitionTime = &at
		}
	}
	return warns(r, func(o, _ *core.PersistentVolume) []string { return persistentvolume.GetWarningsForPersistentVolume(o) })
}

func claimRules() rules {
	r := checks(func(o *core.PersistentVolumeClaim) field.ErrorList {
		return validation.ValidatePersistentVolumeClaim(o, validation.ValidationOptionsForPersistentVolumeClaim(o, nil))
	}, func(o, old *core.PersistentVolumeClaim) field.ErrorList {
		return validation.ValidatePersistentVolumeClaimUpdate(o, old, validation.ValidationOptionsForPersistentVolumeClaim(o, old))
	}, func(o, old *core.PersistentVolumeClaim) field.ErrorList {
		return validation.ValidatePersistentVolumeClaimStatusUpdate(o, old, validation.ValidationOptionsForPersistentVolumeClaim(o, old))
	})
	r.begin = func(o object.Object, _ time.Time) {
		protect(o, "kubernetes.io/pvc-protection")
		o.(*corev1.PersistentVolumeClaim).Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
	}
	return warns(r, func(o, _ *core.PersistentVolumeClaim) []string {
		return persistentvolumeclaim.GetWarningsForPersistentVolumeClaim(o)
	})
}
