package authz

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

func TestAuthorize(t *testing.T) {
	admin := User{Name: "admin", Groups: []string{GroupMasters, GroupAuthenticated}}
	n1 := User{Name: "system:node:n1", Groups: []string{GroupNodes, GroupAuthenticated}}
	guest := User{Name: "guest", Groups: []string{GroupAuthenticated}}
	impostor := User{Name: "system:node:n1", Groups: []string{GroupAuthenticated}}
	pod := func(name, node string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	}
	live := func(k object.Key) (object.Object, bool) {
		switch k.Name {
		case "mine":
			return pod("mine", "n1"), true
		case "theirs":
			return pod("theirs", "n2"), true
		}
		return nil, false
	}
	node := func(name string) object.Object { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	for _, tc := range []struct {
		name string
		a    Attributes
		want bool
	}{
		{"master deletes", Attributes{User: admin, Verb: "delete", Resource: "namespaces", Name: "x"}, true},
		{"master reads metrics", Attributes{User: admin, Verb: "get", Path: "/metrics"}, true},
		{"anonymous version", Attributes{User: AnonymousUser(), Verb: "get", Path: "/version"}, true},
		{"anonymous readyz check", Attributes{User: AnonymousUser(), Verb: "get", Path: "/readyz/ping"}, true},
		{"anonymous readyz lookalike", Attributes{User: AnonymousUser(), Verb: "get", Path: "/readyzz"}, false},
		{"anonymous posts version", Attributes{User: AnonymousUser(), Verb: "create", Path: "/version"}, false},
		{"anonymous metrics", Attributes{User: AnonymousUser(), Verb: "get", Path: "/metrics"}, false},
		{"anonymous discovery", Attributes{User: AnonymousUser(), Verb: "get", Path: "/api"}, false},
		{"guest discovery", Attributes{User: guest, Verb: "get", Path: "/apis/apps/v1"}, true},
		{"guest pods", Attributes{User: guest, Verb: "list", Resource: "pods"}, false},
		{"node lists pods", Attributes{User: n1, Verb: "list", Resource: "pods"}, true},
		{"node watches slices", Attributes{User: n1, Verb: "watch", Resource: "endpointslices", Group: "discovery.k8s.io"}, true},
		{"node reads commits", Attributes{User: n1, Verb: "list", Resource: "commits", Group: "reconcile.local"}, false},
		{"impostor lists pods", Attributes{User: impostor, Verb: "list", Resource: "pods"}, false},
		{"node writes secret", Attributes{User: n1, Verb: "update", Resource: "secrets", Namespace: "default", Name: "s"}, false},
		{"node execs", Attributes{User: n1, Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "default", Name: "mine"}, false},
		{"node makes itself", Attributes{User: n1, Verb: "create", Resource: "nodes", Object: node("n1")}, true},
		{"node makes another", Attributes{User: n1, Verb: "create", Resource: "nodes", Object: node("n2")}, false},
		{"node makes unknown", Attributes{User: n1, Verb: "create", Resource: "nodes"}, false},
		{"node own status", Attributes{User: n1, Verb: "update", Resource: "nodes", Subresource: "status", Name: "n1"}, true},
		{"node other status", Attributes{User: n1, Verb: "update", Resource: "nodes", Subresource: "status", Name: "n2"}, false},
		{"node deletes itself", Attributes{User: n1, Verb: "delete", Resource: "nodes", Name: "n1"}, false},
		{"node own pod status", Attributes{User: n1, Verb: "update", Resource: "pods", Subresource: "status", Namespace: "default", Name: "mine"}, true},
		{"node own pod spec", Attributes{User: n1, Verb: "update", Resource: "pods", Namespace: "default", Name: "mine"}, false},
		{"node other pod status", Attributes{User: n1, Verb: "patch", Resource: "pods", Subresource: "status", Namespace: "default", Name: "theirs"}, false},
		{"node deletes own pod", Attributes{User: n1, Verb: "delete", Resource: "pods", Namespace: "default", Name: "mine"}, true},
		{"node deletes other pod", Attributes{User: n1, Verb: "delete", Resource: "pods", Namespace: "default", Name: "theirs"}, false},
		{"node deletes all pods", Attributes{User: n1, Verb: "deletecollection", Resource: "pods", Namespace: "default"}, false},
		{"node event", Attributes{User: n1, Verb: "create", Resource: "events", Namespace: "default"}, true},
		{"node lease", Attributes{User: n1, Verb: "update", Resource: "leases", Group: "coordination.k8s.io", Namespace: "kube-node-lease", Name: "n1"}, true},
		{"node other lease", Attributes{User: n1, Verb: "update", Resource: "leases", Group: "coordination.k8s.io", Namespace: "kube-node-lease", Name: "n2"}, false},
		{"node lease elsewhere", Attributes{User: n1, Verb: "update", Resource: "leases", Group: "coordination.k8s.io", Namespace: "default", Name: "n1"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := Authorize(tc.a, live)
			if d.Allowed != tc.want {
				t.Fatalf("allowed = %v, want %v (%s)", d.Allowed, tc.want, d.Reason)
			}
			if d.Allowed != (d.Reason == "") {
				t.Errorf("reason %q beside allowed = %v", d.Reason, d.Allowed)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	for _, tc := range []struct {
		a    Attributes
		want string
	}{
		{Attributes{User: AnonymousUser(), Verb: "list", Resource: "pods"}, `User "system:anonymous" cannot list resource "pods" in API group "" at the cluster scope`},
		{Attributes{User: User{Name: "u"}, Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale", Namespace: "web"}, `User "u" cannot update resource "deployments/scale" in API group "apps" in the namespace "web"`},
		{Attributes{User: User{Name: "u"}, Verb: "get", Path: "/metrics"}, `User "u" cannot get path "/metrics"`},
	} {
		if got := Refusal(tc.a); got != tc.want {
			t.Errorf("got %s\nwant %s", got, tc.want)
		}
	}
}
