package admission

import (
	"fmt"

	appsv1api "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsv1 "k8s.io/kubernetes/pkg/apis/apps/v1"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalingv1 "k8s.io/kubernetes/pkg/apis/autoscaling/v1"
	autoscalingv2 "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchv1 "k8s.io/kubernetes/pkg/apis/batch/v1"
	"k8s.io/kubernetes/pkg/apis/certificates"
	certificatesv1 "k8s.io/kubernetes/pkg/apis/certificates/v1"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationv1 "k8s.io/kubernetes/pkg/apis/coordination/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryv1 "k8s.io/kubernetes/pkg/apis/discovery/v1"
	"k8s.io/kubernetes/pkg/apis/events"
	eventsv1 "k8s.io/kubernetes/pkg/apis/events/v1"
	"k8s.io/kubernetes/pkg/apis/flowcontrol"
	flowcontrolv1 "k8s.io/kubernetes/pkg/apis/flowcontrol/v1"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingv1 "k8s.io/kubernetes/pkg/apis/networking/v1"
	"k8s.io/kubernetes/pkg/apis/node"
	nodev1 "k8s.io/kubernetes/pkg/apis/node/v1"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyv1 "k8s.io/kubernetes/pkg/apis/policy/v1"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacv1 "k8s.io/kubernetes/pkg/apis/rbac/v1"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagev1 "k8s.io/kubernetes/pkg/apis/storage/v1"

	"reconcile/object"
)

// internal knows Kubernetes' internal types, with the conversions and defaults between them and the stored version. It is
// built once and never changed.
var internal = newInternal()

func newInternal() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, corev1.AddToScheme, apps.AddToScheme, appsv1.AddToScheme, autoscaling.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme,
		batch.AddToScheme, batchv1.AddToScheme, certificates.AddToScheme, certificatesv1.AddToScheme, coordination.AddToScheme, coordinationv1.AddToScheme,
		discovery.AddToScheme, discoveryv1.AddToScheme, events.AddToScheme, eventsv1.AddToScheme, flowcontrol.AddToScheme, flowcontrolv1.AddToScheme,
		networking.AddToScheme, networkingv1.AddToScheme,
		node.AddToScheme, nodev1.AddToScheme, policy.AddToScheme, policyv1.AddToScheme, rbac.AddToScheme, rbacv1.AddToScheme,
		scheduling.AddToScheme, schedulingv1.AddToScheme, storage.AddToScheme, storagev1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	return s
}

// Default fills in what a manifest leaves out, with Kubernetes' own defaulting functions. It changes o, and is idempotent.
// A Secret's stringData becomes data. Kinds of our own have no defaults.
func Default(o object.Object) {
	foldSecret(o)
	internal.Default(o)
	keptTwice(o)
	countTemplates(o)
}

// countTemplates gives a daemon set the annotation that counts its templates where it has none: Kubernetes' conversions write it always.
func countTemplates(o object.Object) {
	if ds, ok := o.(*appsv1api.DaemonSet); ok && ds.Annotations[appsv1api.DeprecatedTemplateGeneration] == "" {
		setTemplateGeneration(ds, 0)
	}
}

// Knows tells whether a kind has Kubernetes' own rules: those of our own have not.
func Knows(k object.Kind) bool { return internal.Recognizes(k.GVK) }

// Convert makes an object the given version of its kind, with Kubernetes' own conversions. The result shares memory with o, which is
// not changed; it is o itself if it has that version already.
func Convert(o object.Object, k object.Kind) (object.Object, error) {
	has, err := object.KindOfObject(o)
	if err != nil || has.GVK == k.GVK {
		return o, err
	}
	in, err := toInternal(o)
	if err != nil {
		return nil, err
	}
	out := k.New()
	if err := internal.Convert(in, out, nil); err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", object.KeyOf(o), k.GVK.GroupVersion(), err)
	}
	out.GetObjectKind().SetGroupVersionKind(k.GVK)
	return out, nil
}

// toInternal converts to the version on which Kubernetes' validation works. o is not changed, but the result shares memory with it.
func toInternal(o object.Object) (runtime.Object, error) {
	k, err := object.KindOfObject(o)
	if err != nil {
		return nil, err
	}
	out, err := internal.New(schema.GroupVersionKind{Group: k.GVK.Group, Version: runtime.APIVersionInternal, Kind: k.GVK.Kind})
	if err != nil {
		return nil, fmt.Errorf("find the internal type of %s: %w", k, err)
	}
	if err := internal.Convert(o, out, nil); err != nil {
		return nil, fmt.Errorf("convert %s to its internal type: %w", object.KeyOf(o), err)
	}
	return out, nil
}
