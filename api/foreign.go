package api

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// foreign are the kinds that clients look for though discovery does not name them, and whose absence they take for a fault of the server.
// Of these there are none, and that is what a list says. kubectl asks for definitions when a file names a kind that its group lacks: with
// an answer it says that nothing matches the kind.
var foreign = map[schema.GroupVersionResource]string{
	{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}: "CustomResourceDefinitionList",
}

// absent serves what is asked of a resource that is not served.
func (s *Server) absent(w http.ResponseWriter, r *http.Request, t target, verb string) error {
	kind, ok := foreign[t.gv.WithResource(t.resource)]
	if !ok || verb != "list" || t.namespace != "" {
		if !servesGroup(t.gv.Group) {
			http.NotFound(w, r)
			return nil
		}
		return notServed()
	}
	view, err := s.fresh(r.Context(), t.query.Get("resourceVersion"))
	if err != nil {
		return err
	}
	return sendJSON(w, r, struct {
		metav1.TypeMeta `json:",inline"`
		metav1.ListMeta `json:"metadata"`
		Items           []struct{} `json:"items"`
	}{metav1.TypeMeta{APIVersion: t.gv.String(), Kind: kind}, metav1.ListMeta{ResourceVersion: formatRev(view.Rev())}, []struct{}{}})
}

// servesGroup tells whether anything of a group is served: a path of another is no path of the API.
func servesGroup(group string) bool {
	for _, k := range object.Served() {
		if k.GVK.Group == group {
			return true
		}
	}
	for g := range foreign {
		if g.Group == group {
			return true
		}
	}
	for _, a := range actions() {
		if a.gvk.Group == group {
			return true
		}
	}
	return false
}
