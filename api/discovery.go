package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apidiscoveryv2beta1 "k8s.io/api/apidiscovery/v2beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/object"
)

// discoveryDocs are the discovery documents. They follow from the table of kinds and do not change.
type discoveryDocs struct {
	// legacy are the documents by path ("/api", "/apis/apps", "/apis/apps/v1").
	legacy map[string][]byte
	// aggregated are those of /api and /apis by version of the discovery group.
	aggregated map[string]map[string][]byte
}

func (d discoveryDocs) paths() []string {
	var out []string
	for p := range d.legacy {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

var (
	verbsWhole  = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	verbsSingle = []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	verbsStatus = []string{"get", "patch", "update"}
)

// apiResource is one line of discovery.
type apiResource struct {
	name, singular string
	namespaced     bool
	gvk            schema.GroupVersionKind
	short, cats    []string
	verbs          []string
}

// resourcesOf lists a kind and its subresources.
func resourcesOf(k object.Kind) []apiResource {
	verbs := verbsWhole
	if k.OneByOne {
		verbs = verbsSingle
	}
	out := []apiResource{{k.Resource, k.Singular, k.Namespaced, k.GVK, k.ShortNames, k.Categories, verbs}}
	for _, sub := range k.Subresources {
		body := sub.Body
		if body.Empty() {
			body = k.GVK
		}
		out = append(out, apiResource{k.Resource + "/" + sub.Name, "", k.Namespaced, body, nil, nil, deeds[sub.Does].verbs})
	}
	if k.Scale {
		gvk := schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}
		out = append(out, apiResource{k.Resource + "/scale", "", k.Namespaced, gvk, nil, nil, verbsStatus})
	}
	if k.Status {
		out = append(out, apiResource{k.Resource + "/status", "", k.Namespaced, k.GVK, nil, nil, verbsStatus})
	}
	return out
}

// groupVersions are the served group versions: those of the kinds in their order, with the actions' among them by name.
func groupVersions(kinds []object.Kind) []schema.GroupVersion {
	var out []schema.GroupVersion
	add := func(gv schema.GroupVersion) {
		if !slices.Contains(out, gv) {
			out = append(out, gv)
		}
	}
	for _, k := range kinds {
		add(k.GVK.GroupVersion())
	}
	for _, a := range actions() {
		add(a.gvk.GroupVersion())
	}
	slices.SortStableFunc(out, func(a, b schema.GroupVersion) int { return strings.Compare(a.Group, b.Group) })
	return out
}

// actionsOf lists the actions of a group version.
func actionsOf(gv schema.GroupVersion) []apiResource {
	var out []apiResource
	for _, a := range actions() {
		if a.gvk.GroupVersion() == gv && !a.any() {
			singular := strings.ToLower(a.gvk.Kind)
			if a.reads {
				singular = "" // as metrics-server has it: "pod" is the pod, not what it uses
			}
			out = append(out, apiResource{a.resource, singular, a.namespaced, a.gvk, nil, nil, a.verbs()})
		}
	}
	return out
}

func gvPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

func newDiscovery(kinds []object.Kind, address string) (discoveryDocs, error) {
	d := discoveryDocs{legacy: map[string][]byte{}, aggregated: map[string]map[string][]byte{}}
	docs := map[string]any{
		"/api": metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: address}}},
	}
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, gv := range groupVersions(kinds) {
		docs[gvPath(gv)] = resourceList(gv, kinds)
		if gv.Group == "" {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		if n := len(groups.Groups); n == 0 || groups.Groups[n-1].Name != gv.Group {
			groups.Groups = append(groups.Groups, metav1.APIGroup{Name: gv.Group, PreferredVersion: v})
		}
		g := &groups.Groups[len(groups.Groups)-1]
		g.Versions = append(g.Versions, v)
		one := *g
		one.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		docs["/apis/"+gv.Group] = one
	}
	docs["/apis"] = groups
	for path, doc := range docs {
		b, err := json.Marshal(doc)
		if err != nil {
			return d, err
		}
		d.legacy[path] = b
	}
	return d, d.aggregate(kinds)
}

func resourceList(gv schema.GroupVersion, kinds []object.Kind) metav1.APIResourceList {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, k := range kinds {
		if k.GVK.GroupVersion() != gv {
			continue
		}
		for _, r := range resourcesOf(k) {
			res := metav1.APIResource{Name: r.name, SingularName: r.singular, Namespaced: r.namespaced, Kind: r.gvk.Kind,
				Verbs: r.verbs, ShortNames: r.short, Categories: r.cats}
			if r.gvk.GroupVersion() != gv {
				res.Group, res.Version = r.gvk.Group, r.gvk.Version
			}
			list.APIResources = append(list.APIResources, res)
		}
	}
	for _, r := range actionsOf(gv) {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: r.name, SingularName: r.singular, Namespaced: r.namespaced, Kind: r.gvk.Kind, Verbs: r.verbs})
	}
	slices.SortStableFunc(list.APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// aggregate makes the documents that tell everything at once.
func (d discoveryDocs) aggregate(kinds []object.Kind) error {
	core := apidiscoveryv2.APIGroupDiscoveryList{}
	rest := apidiscoveryv2.APIGroupDiscoveryList{}
	for _, gv := range groupVersions(kinds) {
		to := &rest
		if gv.Group == "" {
			to = &core
		}
		if n := len(to.Items); n == 0 || to.Items[n-1].Name != gv.Group {
			to.Items = append(to.Items, apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: gv.Group}})
		}
		g := &to.Items[len(to.Items)-1]
		g.Versions = append(g.Versions, apidiscoveryv2.APIVersionDiscovery{
			Version: gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent, Resources: discoveryOf(gv, kinds),
		})
	}
	for path, list := range map[string]apidiscoveryv2.APIGroupDiscoveryList{"/api": core, "/apis": rest} {
		d.aggregated[path] = map[string][]byte{}
		// Both versions have the same JSON but for the version's name.
		for _, v := range []string{apidiscoveryv2.SchemeGroupVersion.Version, apidiscoveryv2beta1.SchemeGroupVersion.Version} {
			list.TypeMeta = metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/" + v}
			b, err := json.Marshal(list)
			if err != nil {
				return err
			}
			d.aggregated[path][v] = b
		}
	}
	return nil
}

func discoveryOf(gv schema.GroupVersion, kinds []object.Kind) []apidiscoveryv2.APIResourceDiscovery {
	var out []apidiscoveryv2.APIResourceDiscovery
	for _, k := range kinds {
		if k.GVK.GroupVersion() != gv {
			continue
		}
		scope := apidiscoveryv2.ScopeCluster
		if k.Namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		var whole apidiscoveryv2.APIResourceDiscovery
		for i, r := range resourcesOf(k) {
			kind := &metav1.GroupVersionKind{Group: r.gvk.Group, Version: r.gvk.Version, Kind: r.gvk.Kind}
			if i == 0 {
				whole = apidiscoveryv2.APIResourceDiscovery{Resource: r.name, ResponseKind: kind, Scope: scope,
					SingularResource: r.singular, Verbs: r.verbs, ShortNames: r.short, Categories: r.cats}
				continue
			}
			whole.Subresources = append(whole.Subresources, apidiscoveryv2.APISubresourceDiscovery{
				Subresource: strings.TrimPrefix(r.name, k.Resource+"/"), ResponseKind: kind, Verbs: r.verbs,
			})
		}
		out = append(out, whole)
	}
	for _, r := range actionsOf(gv) {
		scope := apidiscoveryv2.ScopeCluster
		if r.namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		out = append(out, apidiscoveryv2.APIResourceDiscovery{Resource: r.name, SingularResource: r.singular, Scope: scope, Verbs: r.verbs,
			ResponseKind: &metav1.GroupVersionKind{Group: r.gvk.Group, Version: r.gvk.Version, Kind: r.gvk.Kind}})
	}
	slices.SortStableFunc(out, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return strings.Compare(a.Resource, b.Resource) })
	return out
}

// serveDiscovery answers with the aggregated document if the client prefers it, else with the old one.
func (s *Server) serveDiscovery(w http.ResponseWriter, r *http.Request, path string) error {
	doc, ok := s.discovery.legacy[path]
	if !ok {
		http.NotFound(w, r)
		return nil
	}
	if b, is, err := s.metricsDiscovery(r.Context(), path); is {
		if err == nil {
			send(w, r, http.StatusOK, mediaJSON, b)
		}
		return err
	}
	for _, c := range parseAccept(r.Header.Get("Accept")) {
		if c.media != mediaJSON && c.media != "*/*" && c.media != "application/*" {
			continue
		}
		if c.params["as"] == "" {
			break
		}
		b, ok := s.discovery.aggregated[path][c.params["v"]]
		if ok && c.params["as"] == "APIGroupDiscoveryList" && c.params["g"] == "apidiscovery.k8s.io" && c.params["profile"] == "" {
			if unchanged(w, r, tagOf(b)) {
				return nil
			}
			send(w, r, http.StatusOK, mediaJSON+";g=apidiscovery.k8s.io;v="+c.params["v"]+";as=APIGroupDiscoveryList", b)
			return nil
		}
	}
	send(w, r, http.StatusOK, mediaJSON, doc)
	return nil
}
