package admission

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsv1 "k8s.io/kubernetes/pkg/apis/apps/v1"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationv1 "k8s.io/kubernetes/pkg/apis/coordination/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryv1 "k8s.io/kubernetes/pkg/apis/discovery/v1"

	"reconcile/object"
)

// internal knows Kubernetes' internal types, with the conversions and defaults between them and the stored version. It is
// built once and never changed.
var internal = newInternal()

func newInternal() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, corev1.AddToScheme, apps.AddToScheme, appsv1.AddToScheme,
		discovery.AddToScheme, discoveryv1.AddToScheme, coordination.AddToScheme, coordinationv1.AddToScheme,
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
	pairAddresses(o)
}

// pairAddresses makes clusterIP and clusterIPs of a service say the same where one is left out, as the API server does before it
// validates: a headless service says "clusterIP: None" and no more.
func pairAddresses(o object.Object) {
	svc, ok := o.(*v1.Service)
	if !ok || svc.Spec.Type == v1.ServiceTypeExternalName {
		return
	}
	switch {
	case svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0:
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	case svc.Spec.ClusterIP == "" && len(svc.Spec.ClusterIPs) > 0:
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
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
