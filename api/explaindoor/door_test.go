package explaindoor_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api/explaindoor"
	"reconcile/authz"
	"reconcile/controller/memview"
	"reconcile/explain"
)

// TestDoor asks each question, also of what is not there and as somebody who may not.
func TestDoor(t *testing.T) {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "u"},
		Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}}}}
	node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	h := explaindoor.New(func() explain.View { return memview.New(pod, node) })
	admin := authz.User{Name: "admin", Groups: []string{authz.GroupMasters}}
	for _, c := range []struct {
		user   authz.User
		method string
		path   string
		code   int
		body   string
	}{
		{admin, "GET", "/reconcile/v1/explain/pods/shop/cart", 200, `"waits":["spec.schedulingGates has g`},
		{admin, "GET", "/reconcile/v1/explain/pods/shop/none", 404, `pods "none" not found in namespace "shop"`},
		{admin, "GET", "/reconcile/v1/explain/nodes/n1", 200, `{"moves":[]}`},
		{admin, "GET", "/reconcile/v1/explain/nodes/n2", 404, `nodes "n2" not found`},
		{admin, "GET", "/reconcile/v1/rebalance?gain=5&most=2", 200, `{"moves":[]}`},
		{admin, "GET", "/reconcile/v1/rebalance?gain=0&most=2", 400, "whole numbers"},
		{admin, "GET", "/reconcile/v1/rebalance", 400, "whole numbers"},
		{admin, "POST", "/reconcile/v1/rebalance?gain=5&most=2", 405, ""},
		{authz.User{Name: "eve", Groups: []string{authz.GroupAuthenticated}}, "GET", "/reconcile/v1/explain/pods/shop/cart", 403, `user "eve" may not`},
	} {
		r := httptest.NewRequest(c.method, c.path, http.NoBody)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(authz.WithUser(r.Context(), c.user)))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s as %s: %d %s, want %d and %q", c.method, c.path, c.user.Name, w.Code, w.Body, c.code, c.body)
		}
	}
}
