package authz

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// Attributes are what a request wants. Either Resource is set, or Path for what is no resource.
type Attributes struct {
	User User
	// Verb is Kubernetes': get list watch create update patch delete deletecollection.
	Verb        string
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	// Object is the new object of a create, if it is known yet.
	Object object.Object
	// Path is that of a request for no resource ("/metrics").
	Path string
}

// Lookup returns the stored object, for rules that depend on it (a pod's node).
type Lookup func(object.Key) (object.Object, bool)

// Decision is the answer. Reason is empty if Allowed.
type Decision struct {
	Allowed bool
	Reason  string
}

// open are the paths that everybody may read.
var open = []string{"/version", "/livez", "/readyz", "/healthz"}

// Authorize decides. It is pure and does not block, apart from what live does.
func Authorize(a Attributes, live Lookup) Decision {
	switch {
	case a.User.In(GroupMasters):
		return Decision{Allowed: true}
	case a.Resource == "" && a.Verb == "get" && isOpen(a.Path):
		return Decision{Allowed: true}
	case a.Resource == "" && a.Verb == "get" && a.User.In(GroupAuthenticated) && isDiscovery(a.Path):
		return Decision{Allowed: true}
	case a.Verb == "create" && a.User.In(GroupAuthenticated) && IsSelfReview(a.Group, a.Resource):
		return Decision{Allowed: true}
	case a.User.Node() != "" && a.Resource != "" && nodeMay(a, a.User.Node(), live):
		return Decision{Allowed: true}
	}
	return Decision{Reason: Refusal(a)}
}

// Refusal is Kubernetes' sentence about a request that is not allowed.
func Refusal(a Attributes) string {
	if a.Resource == "" {
		return fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", a.User.Name, a.Verb, resource, a.Group, where)
}

func isOpen(path string) bool {
	return slices.ContainsFunc(open, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

func isDiscovery(path string) bool {
	return path == "/api" || path == "/apis" || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/") ||
		strings.HasPrefix(path, "/openapi/")
}

// IsSelfReview tells whether a resource only tells people about themselves: everybody who is known may ask for it.
func IsSelfReview(group, resource string) bool {
	switch group {
	case "authentication.k8s.io":
		return resource == "selfsubjectreviews"
	case "authorization.k8s.io":
		return resource == "selfsubjectaccessreviews" || resource == "selfsubjectrulesreviews"
	}
	return false
}

// nodeReads are the resources that a machine needs to run pods, serve services and answer names.
var nodeReads = []string{"pods", "services", "endpointslices", "configmaps", "secrets", "nodes", "namespaces"}

// leaseNamespace holds the leases by which agents say that they live.
const leaseNamespace = "kube-node-lease"

// nodeMay is what the agent of a node may do, after Kubernetes' node authorizer and its NodeRestriction admission.
func nodeMay(a Attributes, node string, live Lookup) bool {
	reads := a.Verb == "get" || a.Verb == "list" || a.Verb == "watch"
	writes := a.Verb == "create" || a.Verb == "update" || a.Verb == "patch"
	switch {
	case reads && a.Subresource == "" && slices.Contains(nodeReads, a.Resource):
		return true
	case a.Resource == "nodes":
		return writes && nodeWrites(a, node)
	case a.Resource == "pods":
		return nodePod(a, node, live)
	case a.Resource == "events":
		return writes && a.Subresource == ""
	case a.Resource == "leases":
		return (writes || a.Verb == "get") && a.Subresource == "" && a.Namespace == leaseNamespace && named(a, node)
	}
	return false
}

func nodeWrites(a Attributes, node string) bool {
	return (a.Subresource == "" || a.Subresource == "status" && a.Verb != "create") && named(a, node)
}

// named tells whether the request is about the object that has the node's name.
func named(a Attributes, node string) bool {
	if a.Verb == "create" {
		return a.Object != nil && a.Object.GetName() == node
	}
	return a.Name == node
}

// nodePod allows the status and the deletion of pods that are bound to the node.
func nodePod(a Attributes, node string, live Lookup) bool {
	status := a.Subresource == "status" && (a.Verb == "update" || a.Verb == "patch")
	removal := a.Subresource == "" && a.Verb == "delete"
	if !status && !removal {
		return false
	}
	o, ok := live(object.Key{Resource: "pods", Namespace: a.Namespace, Name: a.Name})
	if !ok {
		// What is gone may be asked for again: the answer is 404, which tells the agent what it must know.
		return true
	}
	pod, ok := o.(*corev1.Pod)
	return ok && pod.Spec.NodeName == node
}
