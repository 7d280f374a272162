package object

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Subresource is a part of the objects of a kind, or something that can be done with them, beside status and scale.
type Subresource struct {
	// Name is its last element in a path.
	Name string
	// Body is the kind of what is sent, as discovery tells it; empty for the object's own.
	Body schema.GroupVersionKind
	// Does tells how it is served.
	Does Deed
}

// Deed is a way to serve a subresource. What each takes and answers is Kubernetes'.
type Deed string

// The deeds.
const (
	// Writes reads the object and writes a part of it; Replaces only takes the whole.
	Writes   Deed = "writes"
	Replaces Deed = "replaces"
	// Proxies passes requests of any method on to the object.
	Proxies Deed = "proxies"
	// Logs, Executes, Attaches and Forwards are streams from and to the containers of a pod.
	Logs     Deed = "logs"
	Executes Deed = "executes"
	Attaches Deed = "attaches"
	Forwards Deed = "forwards"
	// Binds gives a pod its node, and Evicts deletes it if its budgets allow that.
	Binds  Deed = "binds"
	Evicts Deed = "evicts"
	// Signs makes a token for an account.
	Signs Deed = "signs"
)

// Subresource finds what the kind has under a name.
func (k Kind) Subresource(name string) (Subresource, bool) {
	for _, s := range k.Subresources {
		if s.Name == name {
			return s, true
		}
	}
	return Subresource{}, false
}

// podSubresources are those of pods, by name.
var podSubresources = []Subresource{
	{"attach", corev1.SchemeGroupVersion.WithKind("PodAttachOptions"), Attaches},
	{"binding", corev1.SchemeGroupVersion.WithKind("Binding"), Binds},
	{"ephemeralcontainers", schema.GroupVersionKind{}, Writes},
	{"eviction", policyv1.SchemeGroupVersion.WithKind("Eviction"), Evicts},
	{"exec", corev1.SchemeGroupVersion.WithKind("PodExecOptions"), Executes},
	{"log", schema.GroupVersionKind{}, Logs},
	{"portforward", corev1.SchemeGroupVersion.WithKind("PodPortForwardOptions"), Forwards},
	{"proxy", corev1.SchemeGroupVersion.WithKind("PodProxyOptions"), Proxies},
	{"resize", schema.GroupVersionKind{}, Writes},
}

var (
	namespaceSubresources = []Subresource{{"finalize", schema.GroupVersionKind{}, Replaces}}
	nodeSubresources      = []Subresource{{"proxy", corev1.SchemeGroupVersion.WithKind("NodeProxyOptions"), Proxies}}
	serviceSubresources   = []Subresource{{"proxy", corev1.SchemeGroupVersion.WithKind("ServiceProxyOptions"), Proxies}}
	accountSubresources   = []Subresource{{"token", authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), Signs}}
	requestSubresources   = []Subresource{{"approval", schema.GroupVersionKind{}, Writes}}
)
