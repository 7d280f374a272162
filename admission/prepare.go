package admission

import (
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"

	"reconcile/object"
)

// PrepareCreate makes a new object ready to be stored, as the API server's strategies do: UID, creation time, generation, the
// initial status. A UID that the object already has is kept if uid is empty. It changes o.
func PrepareCreate(o object.Object, uid types.UID, now time.Time) {
	if uid != "" {
		o.SetUID(uid)
	}
	o.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	o.SetResourceVersion("")
	o.SetDeletionTimestamp(nil)
	o.SetDeletionGracePeriodSeconds(nil)
	o.SetSelfLink("")
	switch o := o.(type) {
	case *corev1.Pod:
		o.Generation = 1
		defaultTolerations(o)
		o.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: qos.ComputePodQOS(o)}
	case *corev1.Service:
		o.Status = corev1.ServiceStatus{}
	case *corev1.Namespace:
		o.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
		if !slices.Contains(o.Spec.Finalizers, corev1.FinalizerKubernetes) {
			o.Spec.Finalizers = append(o.Spec.Finalizers, corev1.FinalizerKubernetes)
		}
	case *appsv1.Deployment:
		o.Generation, o.Status = 1, appsv1.DeploymentStatus{}
	case *appsv1.ReplicaSet:
		o.Generation, o.Status = 1, appsv1.ReplicaSetStatus{}
	default:
		o.SetGeneration(0)
		if k, err := object.KindOfObject(o); err == nil && k.Resource == "endpointslices" {
			o.SetGeneration(1)
		}
	}
	namespaceLabel(o)
}

// namespaceLabel is the label that every namespace has.
func namespaceLabel(o object.Object) {
	if ns, ok := o.(*corev1.Namespace); ok {
		labels := make(map[string]string, len(ns.Labels)+1)
		for k, v := range ns.Labels {
			labels[k] = v
		}
		labels[corev1.LabelMetadataName] = ns.Name
		ns.Labels = labels
	}
}

// PrepareUpdate makes a replacement of old ready to be stored: what a client may not change is taken from old (UID, creation
// and deletion time, status where the kind has a status subresource), and the generation grows if the specification changed.
// It changes o; o may share memory with old afterwards.
func PrepareUpdate(o, old object.Object) {
	keepMeta(o, old)
	switch o := o.(type) {
	case *corev1.Namespace:
		was := old.(*corev1.Namespace)
		o.Spec.Finalizers, o.Status = was.Spec.Finalizers, was.Status
	case *corev1.Secret:
		if o.Type == "" {
			o.Type = old.(*corev1.Secret).Type
		}
	case *corev1.Service:
		keepServiceAddress(o, old.(*corev1.Service))
	}
	copyStatus(o, old)
	PrepareGeneration(o, old)
	namespaceLabel(o)
}

// PrepareStatusUpdate makes a write of the status subresource ready to be stored: everything but the status comes from old.
// It changes o.
func PrepareStatusUpdate(o, old object.Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		was := old.(*corev1.Pod)
		status := o.Status
		if status.QOSClass == "" {
			status.QOSClass = was.Status.QOSClass
		}
		*o = *was
		o.Status = status
	case *corev1.Node:
		status, meta := o.Status, o.ObjectMeta
		*o = *old.(*corev1.Node)
		o.Status = status
		// Agents report labels and annotations with their status, as kubelets do; they add and never take away.
		o.Labels, o.Annotations = over(o.Labels, meta.Labels), over(o.Annotations, meta.Annotations)
	case *corev1.Service:
		status := o.Status
		*o = *old.(*corev1.Service)
		o.Status = status
	case *corev1.Namespace:
		status := o.Status
		*o = *old.(*corev1.Namespace)
		o.Status = status
	case *appsv1.Deployment:
		status := o.Status
		*o = *old.(*appsv1.Deployment)
		o.Status = status
	case *appsv1.ReplicaSet:
		status := o.Status
		*o = *old.(*appsv1.ReplicaSet)
		o.Status = status
	case *object.Commit:
		status := o.Status
		*o = *old.(*object.Commit)
		o.Status = status
	}
}

// over returns base with more on top; neither is changed.
func over(base, more map[string]string) map[string]string {
	if len(more) == 0 {
		return base
	}
	out := maps.Clone(base)
	if out == nil {
		out = make(map[string]string, len(more))
	}
	maps.Copy(out, more)
	return out
}

// Complete is the admission of what controllers write: defaults and metadata for a creation, the generation for an update. It
// has the shape of controller.Admit; the objects come from our own code and from templates that were validated when they were
// written, so it does not validate.
func Complete(o, old object.Object, now time.Time) error {
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	if o.GetObjectKind().GroupVersionKind() != k.GVK {
		o.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	if old != nil {
		completeGeneration(o, old)
		return nil
	}
	if o.GetCreationTimestamp().Time.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	}
	switch o := o.(type) {
	case *corev1.Pod:
		// The template's defaults were filled in with its owner; what is left is what only a pod has.
		o.Generation = 1
		defaultTolerations(o)
		if o.Status.Phase == "" {
			o.Status.Phase = corev1.PodPending
		}
		if o.Status.QOSClass == "" {
			o.Status.QOSClass = qos.ComputePodQOS(o)
		}
		return nil
	case *corev1.Namespace:
		PrepareCreate(o, o.UID, now)
	case *appsv1.ReplicaSet, *appsv1.Deployment:
		o.SetGeneration(1)
	}
	Default(o)
	return nil
}

// completeGeneration sets the generation of a controller's update. A controller writes annotations beside the status, which
// does not count; it changes no pod's specification but by binding it, which does not count either.
func completeGeneration(o, old object.Object) {
	var grows bool
	switch o := o.(type) {
	case *appsv1.ReplicaSet:
		grows = !equality.Semantic.DeepEqual(o.Spec, old.(*appsv1.ReplicaSet).Spec)
	case *appsv1.Deployment:
		grows = !equality.Semantic.DeepEqual(o.Spec, old.(*appsv1.Deployment).Spec)
	}
	if grows {
		o.SetGeneration(old.GetGeneration() + 1)
	}
}

// tolerationSeconds is for how long a pod stays on a node that is not ready or not heard of, as the API server's admission
// plugin DefaultTolerationSeconds sets it.
const tolerationSeconds = 300

// defaultTolerations gives a pod that does not say it otherwise the two tolerations of that plugin.
func defaultTolerations(p *corev1.Pod) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		}) {
			continue
		}
		seconds := int64(tolerationSeconds)
		p.Spec.Tolerations = append(slices.Clip(p.Spec.Tolerations), corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
	}
}

func keepMeta(o, old object.Object) {
	o.SetUID(old.GetUID())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	o.SetGeneration(old.GetGeneration())
	o.SetSelfLink("")
	o.SetGenerateName(old.GetGenerateName())
}

func copyStatus(o, old object.Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		o.Status = old.(*corev1.Pod).Status
	case *corev1.Node:
		o.Status = old.(*corev1.Node).Status
	case *corev1.Service:
		o.Status = old.(*corev1.Service).Status
	case *appsv1.Deployment:
		o.Status = old.(*appsv1.Deployment).Status
	case *appsv1.ReplicaSet:
		o.Status = old.(*appsv1.ReplicaSet).Status
	case *object.Commit:
		o.Status = old.(*object.Commit).Status
	}
}

// PrepareGeneration sets the generation of a replacement: one more than old's if the specification changed.
func PrepareGeneration(o, old object.Object) {
	var grows bool
	switch o := o.(type) {
	case *corev1.Pod:
		grows = !equality.Semantic.DeepEqual(o.Spec, old.(*corev1.Pod).Spec)
	case *appsv1.Deployment:
		was := old.(*appsv1.Deployment)
		grows = !equality.Semantic.DeepEqual(o.Spec, was.Spec) || !equality.Semantic.DeepEqual(o.Annotations, was.Annotations)
	case *appsv1.ReplicaSet:
		grows = !equality.Semantic.DeepEqual(o.Spec, old.(*appsv1.ReplicaSet).Spec)
	default:
		return
	}
	if grows {
		o.SetGeneration(old.GetGeneration() + 1)
	} else {
		o.SetGeneration(old.GetGeneration())
	}
}

// keepServiceAddress keeps the addresses of a service whose update leaves them out, as the API server does.
func keepServiceAddress(o, old *corev1.Service) {
	if o.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	if o.Spec.ClusterIP == "" && len(o.Spec.ClusterIPs) == 0 {
		o.Spec.ClusterIP, o.Spec.ClusterIPs = old.Spec.ClusterIP, old.Spec.ClusterIPs
	}
	if len(o.Spec.IPFamilies) == 0 {
		o.Spec.IPFamilies = old.Spec.IPFamilies
	}
	if o.Spec.IPFamilyPolicy == nil {
		o.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	}
}
