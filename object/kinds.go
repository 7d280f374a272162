package object

import (
	"fmt"
	"sort"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// Object is what every kind is: a runtime object with Kubernetes' metadata.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind is one row of the table of kinds: everything that code in the path of a request may know about a kind.
type Kind struct {
	// GVK is the one version that is stored and served.
	GVK schema.GroupVersionKind
	// Resource is the plural under which the kind is served and stored ("pods"). It is unique over all kinds.
	Resource string
	// Singular is the resource's singular ("pod").
	Singular string
	// ShortNames are kubectl's abbreviations ("po").
	ShortNames []string
	// Categories are the groups a kind is listed under ("all").
	Categories []string
	// Namespaced tells whether objects of the kind live in a namespace.
	Namespaced bool
	// FromGit tells whether a repository may hold objects of the kind (status-like kinds such as Event may not).
	FromGit bool
	// Status tells whether the kind has a status subresource.
	Status bool
	// Scale tells whether the kind has a scale subresource.
	Scale bool

	make func() Object
}

// New returns an empty object of the kind with its apiVersion and kind set. The caller owns it.
func (k Kind) New() Object {
	o := k.make()
	o.GetObjectKind().SetGroupVersionKind(k.GVK)
	return o
}

// GVR is the group, version and resource of the kind.
func (k Kind) GVR() schema.GroupVersionResource { return k.GVK.GroupVersion().WithResource(k.Resource) }

// GroupResource is the resource with its group, as errors name it.
func (k Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.GVK.Group, Resource: k.Resource}
}

// String is the kind as a person writes it: "Deployment" with its group behind a dot where it has one.
func (k Kind) String() string {
	if k.GVK.Group == "" {
		return k.GVK.Kind
	}
	return k.GVK.Kind + "." + k.GVK.Group
}

// kinds is the table. It is never changed after the program has started.
var kinds = []Kind{
	{GVK: corev1.SchemeGroupVersion.WithKind("Namespace"), Resource: "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
		FromGit: true, Status: true, make: func() Object { return &corev1.Namespace{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("Node"), Resource: "nodes", Singular: "node", ShortNames: []string{"no"},
		Status: true, make: func() Object { return &corev1.Node{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: "pods", Singular: "pod", ShortNames: []string{"po"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, make: func() Object { return &corev1.Pod{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("Service"), Resource: "services", Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, make: func() Object { return &corev1.Service{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("Endpoints"), Resource: "endpoints", Singular: "endpoints", ShortNames: []string{"ep"},
		Namespaced: true, FromGit: true, make: func() Object { return &corev1.Endpoints{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Resource: "configmaps", Singular: "configmap", ShortNames: []string{"cm"},
		Namespaced: true, FromGit: true, make: func() Object { return &corev1.ConfigMap{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("Secret"), Resource: "secrets", Singular: "secret",
		Namespaced: true, FromGit: true, make: func() Object { return &corev1.Secret{} }},
	{GVK: corev1.SchemeGroupVersion.WithKind("Event"), Resource: "events", Singular: "event", ShortNames: []string{"ev"},
		Namespaced: true, make: func() Object { return &corev1.Event{} }},
	{GVK: appsv1.SchemeGroupVersion.WithKind("Deployment"), Resource: "deployments", Singular: "deployment", ShortNames: []string{"deploy"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Scale: true, make: func() Object { return &appsv1.Deployment{} }},
	{GVK: appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), Resource: "replicasets", Singular: "replicaset", ShortNames: []string{"rs"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Scale: true, make: func() Object { return &appsv1.ReplicaSet{} }},
	{GVK: discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), Resource: "endpointslices", Singular: "endpointslice",
		Namespaced: true, FromGit: true, make: func() Object { return &discoveryv1.EndpointSlice{} }},
	{GVK: coordinationv1.SchemeGroupVersion.WithKind("Lease"), Resource: "leases", Singular: "lease",
		Namespaced: true, FromGit: true, make: func() Object { return &coordinationv1.Lease{} }},
	{GVK: CommitGVK, Resource: "commits", Singular: "commit", ShortNames: []string{"gc"},
		Status: true, make: func() Object { return &Commit{} }},
}

var (
	byResource = index(func(k Kind) string { return k.Resource })
	byGVK      = index(func(k Kind) schema.GroupVersionKind { return k.GVK })
	scheme     = newScheme()
)

func index[K comparable](key func(Kind) K) map[K]Kind {
	m := make(map[K]Kind, len(kinds))
	for _, k := range kinds {
		m[key(k)] = k
	}
	return m
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme, metav1.AddMetaToScheme, addOwnKinds,
	} {
		utilruntime.Must(add(s))
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
}

// Scheme knows the Go types of every kind. It is shared and must not be changed.
func Scheme() *runtime.Scheme { return scheme }

// Kinds returns every kind, ordered by group and resource. The caller owns the slice.
func Kinds() []Kind {
	out := append([]Kind(nil), kinds...)
	sort.Slice(out, func(i, j int) bool {
		if out[i].GVK.Group != out[j].GVK.Group {
			return out[i].GVK.Group < out[j].GVK.Group
		}
		return out[i].Resource < out[j].Resource
	})
	return out
}

// KindOf finds the kind by group, version and kind.
func KindOf(gvk schema.GroupVersionKind) (Kind, bool) { k, ok := byGVK[gvk]; return k, ok }

// KindOfResource finds the kind by its plural ("pods").
func KindOfResource(resource string) (Kind, bool) { k, ok := byResource[resource]; return k, ok }

// KindOfObject finds the kind of a typed object, whether or not its apiVersion and kind are set.
func KindOfObject(o Object) (Kind, error) {
	if k, ok := byGVK[o.GetObjectKind().GroupVersionKind()]; ok {
		return k, nil
	}
	gvks, _, err := scheme.ObjectKinds(o)
	if err != nil {
		return Kind{}, fmt.Errorf("find the kind of %T: %w", o, err)
	}
	for _, gvk := range gvks {
		if k, ok := byGVK[gvk]; ok {
			return k, nil
		}
	}
	return Kind{}, fmt.Errorf("find the kind of %T: it is not one of %s", o, strings.Join(kindNames(), ", "))
}

func kindNames() []string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.GVK.Kind)
	}
	return names
}
