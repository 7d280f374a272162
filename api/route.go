package api

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/authz"
	"reconcile/object"
)

// target is what a request is about: a resource, one object of it, or a subresource of one.
type target struct {
	kind  object.Kind
	known bool
	// action is set instead where the resource is one.
	action      *action
	gv          schema.GroupVersion
	resource    string
	namespace   string
	name        string
	subresource string
	// rest is the path behind a proxy, as it was written.
	rest string
	// via is the subresource by which the whole object is changed: its managers are noted under it.
	via   string
	query url.Values
}

// parseTarget reads /api/v1/… and /apis/GROUP/VERSION/…, as Kubernetes' RequestInfo does. It answers false for paths that name no
// resource: discovery and everything else.
func parseTarget(u *url.URL) (target, bool) {
	if strings.HasPrefix(u.Path, "//") {
		return target{}, false
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	var t target
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		t.gv, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		t.gv, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return target{}, false
	}
	watching := parts[0] == "watch" && len(parts) > 1 // the old way to say watch=true
	if watching {
		parts = parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		t.namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	t.resource = parts[0]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.subresource = strings.Join(parts[2:], "/")
	}
	if len(parts) > 2 && parts[2] == "proxy" {
		t.subresource = "proxy"
		_, t.rest, _ = strings.Cut(u.EscapedPath(), "/"+parts[0]+"/"+parts[1]+"/proxy")
	}
	t.kind, t.known = object.KindOfGVR(t.gv.WithResource(t.resource))
	if !t.known {
		t.action = findAction(t.gv.WithResource(t.resource))
	}
	if t.known && !t.kind.Namespaced {
		if t.resource != "namespaces" && t.namespace != "" {
			t.known = false
		}
		t.namespace = ""
	}
	if t.known && t.kind.Namespaced && t.name != "" && t.namespace == "" {
		t.known = false
	}
	t.query = u.Query()
	if watching {
		t.query.Set("watch", "true")
		if t.name != "" {
			t.query.Set("fieldSelector", "metadata.name="+t.name)
			t.name = ""
		}
	}
	return t, true
}

// key is the object's key.
func (t target) key() object.Key {
	return object.Key{Resource: t.resource, Namespace: t.namespace, Name: t.name}
}

func (t target) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: t.gv.Group, Resource: t.resource}
}

// verb is Kubernetes' word for what the request does, which authorisation judges.
func (t target) verb(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		switch {
		case t.name != "":
			return "get"
		case isSet(t.query, "watch"):
			return "watch"
		}
		return "list"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if t.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(method)
}

func (t target) attributes(u authz.User, verb string) authz.Attributes {
	return authz.Attributes{
		User: u, Verb: verb, Group: t.gv.Group, Resource: t.resource, Subresource: t.subresource, Namespace: t.namespace, Name: t.name,
	}
}

func isTrue(s string) bool { return s == "true" || s == "1" || s == "True" }
