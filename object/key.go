package object

import (
	"fmt"
	"strings"
)

// Key addresses one object. Resource is the plural; Namespace is empty for objects that live in none.
type Key struct {
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// prefix is where all objects stand in the store, as in Kubernetes.
const prefix = "/registry/"

// KeyOf returns the key of an object of a known kind.
func KeyOf(o Object) Key {
	k, err := KindOfObject(o)
	if err != nil {
		return Key{Namespace: o.GetNamespace(), Name: o.GetName()}
	}
	return Key{Resource: k.Resource, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Path is the key in the store: /registry/RESOURCE/NAMESPACE/NAME, or /registry/RESOURCE/NAME where there is no namespace.
func (k Key) Path() string {
	if k.Namespace == "" {
		return prefix + k.Resource + "/" + k.Name
	}
	return prefix + k.Resource + "/" + k.Namespace + "/" + k.Name
}

// PathPrefix is what the paths of all objects of a resource, and of one namespace if that is not empty, begin with.
func PathPrefix(resource, namespace string) string {
	if namespace == "" {
		return prefix + resource + "/"
	}
	return prefix + resource + "/" + namespace + "/"
}

// ParsePath is the inverse of Path.
func ParsePath(path string) (Key, error) {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return Key{}, fmt.Errorf("parse store key %q: it does not begin with %s", path, prefix)
	}
	parts := strings.Split(rest, "/")
	for _, p := range parts {
		if p == "" {
			return Key{}, fmt.Errorf("parse store key %q: a part is empty", path)
		}
	}
	switch len(parts) {
	case 2:
		return Key{Resource: parts[0], Name: parts[1]}, nil
	case 3:
		return Key{Resource: parts[0], Namespace: parts[1], Name: parts[2]}, nil
	}
	return Key{}, fmt.Errorf("parse store key %q: want %sRESOURCE/[NAMESPACE/]NAME", path, prefix)
}

// String is the key as a person reads it: "deployment/default/web", or "node/n1" where there is no namespace.
func (k Key) String() string {
	singular := k.Resource
	if kind, ok := KindOfResource(k.Resource); ok {
		singular = kind.Singular
	}
	if k.Namespace == "" {
		return singular + "/" + k.Name
	}
	return singular + "/" + k.Namespace + "/" + k.Name
}

// Compare orders keys by resource, namespace and name, each as text: the order in which people read lists. It is not the order of
// paths in the store, where namespace d-2 stands before d, because "-" comes before "/"; compare Path for that.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Resource, o.Resource); c != 0 {
		return c
	}
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}
