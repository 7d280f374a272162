// Package explaindoor is HTTP for the questions of package explain: GET /reconcile/v1/explain/pods/NAMESPACE/NAME, /reconcile/v1/explain/nodes/NAME and
// /reconcile/v1/rebalance.
//
// It owns paths, status codes and who may ask: an answer names pods of all namespaces, so it is for administrators. It keeps no state and knows no rule
// of the scheduler.
//
// How data passes through: a request's path names an object, which is looked up in the View of the moment; the answer of package explain is written as
// JSON.
package explaindoor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"reconcile/authz"
	"reconcile/explain"
	"reconcile/object"
)

// Prefix begins the paths that the handler serves, and Rebalance is one of its own.
const (
	Prefix    = "/reconcile/v1/explain/"
	Rebalance = "/reconcile/v1/rebalance"
)

// New makes the handler. view gives the state of the moment and does not block; extensions are those that the cluster's scheduler has.
func New(view func() explain.View, extensions ...*explain.Extension) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Prefix+"pods/{namespace}/{name}", func(w http.ResponseWriter, r *http.Request) {
		v := view()
		key := object.Key{Resource: "pods", Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
		o, _ := v.Get(key)
		p, ok := o.(*corev1.Pod)
		if !ok {
			http.Error(w, fmt.Sprintf("pods %q not found in namespace %q", key.Name, key.Namespace), http.StatusNotFound)
			return
		}
		answer(w, explain.OfPod(v, p, extensions...))
	})
	mux.HandleFunc("GET "+Prefix+"nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		out, ok := explain.OfNode(view(), r.PathValue("name"), extensions...)
		if !ok {
			http.Error(w, fmt.Sprintf("nodes %q not found", r.PathValue("name")), http.StatusNotFound)
			return
		}
		answer(w, out)
	})
	mux.HandleFunc("GET "+Rebalance, func(w http.ResponseWriter, r *http.Request) {
		gain, err := strconv.ParseInt(r.URL.Query().Get("gain"), 10, 64)
		most, err2 := strconv.Atoi(r.URL.Query().Get("most"))
		if err != nil || err2 != nil || gain < 1 || most < 1 {
			http.Error(w, "gain and most must be whole numbers of at least 1", http.StatusBadRequest)
			return
		}
		answer(w, explain.OfCluster(view(), gain, most, extensions...))
	})
	return administrators(mux)
}

// administrators lets nobody else in.
func administrators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		if u := authz.UserFrom(r.Context()); !u.In(authz.GroupMasters) {
			http.Error(w, fmt.Sprintf("user %q may not ask why pods are where they are, as the answer names pods of all namespaces; use the administrator's kubeconfig", u.Name), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that has gone reads nothing
}
