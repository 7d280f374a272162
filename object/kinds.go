package object

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/version"
)

// Object is what every kind is: a runtime object with Kubernetes' metadata.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind is one row of the table of kinds: everything that code in the path of a request may know about a kind.
type Kind struct {
	// GVK is the version in which objects of the kind are stored. A Kind that KindOf, KindOfGVR or Served gave out may be another
	// served version of the same kind: then GVK is that one, New makes its type, and Stored is the stored one.
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
	// Dormant tells that objects of the kind are stored and served, and that nothing of ours acts on them yet.
	Dormant bool
	// Status tells whether the kind has a status subresource.
	Status bool
	// Scale tells whether the kind has a scale subresource.
	Scale bool
	// Subresources are the others, in the order of their names.
	Subresources []Subresource
	// Orphans tells that a deletion which names no propagation policy leaves the dependents, as old clients expect of the kind.
	Orphans bool
	// OrphansWarning is what Kubernetes warns of then, empty for nothing.
	OrphansWarning string
	// NoDependents tells that a deletion does not ask what is to become of the dependents, whatever policy it names.
	NoDependents bool
	// Deprecated is what every answer about the kind warns of, empty for nothing.
	Deprecated string
	// Returned tells that the answer to a deletion is the object, as in Kubernetes; for other kinds it is a Status.
	Returned bool
	// Uncached tells that an object of the kind does not look the same for as long as its resourceVersion does: a node's lease is renewed without a new
	// one, and a commit's row is shown with what is not stored in it.
	Uncached bool
	// OneByOne tells that objects of the kind are not deleted as a collection.
	OneByOne bool
	// Selectable adds the fields beyond name and namespace that a field selector may name, for any object of the stored version; nil
	// for none.
	Selectable func(Object, fields.Set)

	make func() Object
	// read fills in what the stored form of an object leaves out, nil for nothing: parts of an object have no apiVersion and kind in protobuf.
	read func(Object)
	also []servedVersion
	// stored is the stored version's GVK in a Kind that is another version.
	stored schema.GroupVersionKind
}

// servedVersion is a further version in which a kind is served.
type servedVersion struct {
	gvk  schema.GroupVersionKind
	make func() Object
}

// Stored is the kind in the version in which it is stored: k itself for most.
func (k Kind) Stored() Kind {
	if k.stored.Empty() {
		return k
	}
	return byResource[k.Resource]
}

// IsStored tells whether k is the version that is stored.
func (k Kind) IsStored() bool { return k.stored.Empty() }

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

// kinds is the table, put together from the groups' (kinds_GROUP.go). It is never changed after the program has started.
var kinds = slices.Concat(coreKinds, appsKinds, autoscalingKinds, batchKinds, certificatesKinds, coordinationKinds, discoveryKinds, flowcontrolKinds, networkingKinds,
	nodeKinds, policyKinds, rbacKinds, schedulingKinds, storageKinds, ownKinds)

// of makes empty objects of one Go type.
func of[T any, P interface {
	*T
	Object
}]() Object {
	return P(new(T))
}

var (
	byResource = index(kinds, func(k Kind) string { return k.Resource })
	served     = servedKinds()
	byGVK      = index(served, func(k Kind) schema.GroupVersionKind { return k.GVK })
	byGVR      = index(served, Kind.GVR)
	scheme     = newScheme()
)

func index[K comparable](of []Kind, key func(Kind) K) map[K]Kind {
	m := make(map[K]Kind, len(of))
	for _, k := range of {
		m[key(k)] = k
	}
	return m
}

// servedKinds has every kind once a version.
func servedKinds() []Kind {
	var out []Kind
	for _, k := range kinds {
		out = append(out, k)
		for _, v := range k.also {
			other := k
			other.GVK, other.make, other.also, other.stored = v.gvk, v.make, nil, k.GVK
			out = append(out, other)
		}
	}
	slices.SortStableFunc(out, func(a, b Kind) int {
		return cmp.Or(cmp.Compare(a.GVK.Group, b.GVK.Group), version.CompareKubeAwareVersionStrings(b.GVK.Version, a.GVK.Version), cmp.Compare(a.Resource, b.Resource))
	})
	return out
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, authenticationv1.AddToScheme, authorizationv1.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme,
		batchv1.AddToScheme, certificatesv1.AddToScheme, coordinationv1.AddToScheme, discoveryv1.AddToScheme, eventsv1.AddToScheme, flowcontrolv1.AddToScheme,
		networkingv1.AddToScheme,
		nodev1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme, schedulingv1.AddToScheme, storagev1.AddToScheme, metav1.AddMetaToScheme, addOwnKinds,
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

// Served returns every kind in every version in which it is served, ordered by group, version (the preferred first) and resource. The
// caller owns the slice.
func Served() []Kind { return slices.Clone(served) }

// KindOfGVR finds the kind, in the version that is named, by what stands in a path of the API.
func KindOfGVR(gvr schema.GroupVersionResource) (Kind, bool) { k, ok := byGVR[gvr]; return k, ok }

// KindOf finds the kind, in the version that is named, by group, version and kind.
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
