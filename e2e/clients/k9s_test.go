package clients

import (
	"errors"
	"slices"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/discovery/cached/disk"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
)

// TestK9s asks what k9s asks, as its sources say (internal/client and internal/dao): k9s itself could not be had as a module. Discovery through a
// cache on disk, what one may do, tables without a limit, and an informer for every kind that can be listed and watched.
func TestK9s(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), clientset(t)
	disco, err := disk.NewCachedDiscoveryClientForConfig(config(t), t.TempDir(), t.TempDir(), time.Minute)
	must(t, err)
	version, err := disco.ServerVersion()
	must(t, err)
	if version.Major != "1" || version.Minor == "" {
		t.Errorf("version %v", version)
	}
	groups, err := disco.ServerGroups()
	must(t, err)
	if !slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool {
		return g.Name == "metrics.k8s.io" && g.PreferredVersion.Version == "v1beta1"
	}) {
		t.Error("there are no metrics, with which k9s fills its columns")
	}
	namespaces, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	must(t, err)
	if !slices.ContainsFunc(namespaces.Items, func(ns corev1.Namespace) bool { return ns.Name == "default" }) {
		t.Errorf("namespaces %v", namespaces.Items)
	}
	lists, err := disco.ServerPreferredResources()
	must(t, err)
	dyn, err := dynamic.NewForConfig(config(t))
	must(t, err)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 10*time.Minute, "", nil)
	var kinds int
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		must(t, err)
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "watch") {
				continue
			}
			kinds++
			gvr := gv.WithResource(r.Name)
			for _, verb := range []string{"get", "list", "watch"} {
				review, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
					ResourceAttributes: &authorizationv1.ResourceAttributes{Group: gvr.Group, Resource: gvr.Resource, Verb: verb}}}, metav1.CreateOptions{})
				must(t, err)
				if !review.Status.Allowed {
					t.Errorf("the administrator may not %s %s", verb, gvr)
				}
			}
			tableOf(t, gvr)
			factory.ForResource(gvr)
		}
	}
	if kinds < 40 {
		t.Errorf("only %d kinds can be listed and watched", kinds)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	for gvr, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			t.Errorf("the informer of %s has not synced", gvr)
		}
	}
	close(stop)
	factory.Shutdown()
	// It looks for definitions of further kinds; that there are none is no fault.
	crds, err := dyn.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).List(ctx, metav1.ListOptions{})
	must(t, err)
	if len(crds.Items) != 0 {
		t.Errorf("definitions: %v", crds.Items)
	}
}

// tableOf lists a kind as a Table, as k9s does: with this very header.
func tableOf(t *testing.T, gvr schema.GroupVersionResource) {
	t.Helper()
	cfg := config(t)
	gv := gvr.GroupVersion()
	cfg.GroupVersion, cfg.APIPath = &gv, "/apis"
	if gvr.Group == "" {
		cfg.APIPath = "/api"
	}
	scheme := runtime.NewScheme()
	for _, v := range []schema.GroupVersion{gv, metav1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(scheme, v)
		scheme.AddKnownTypes(v, &metav1.Table{}, &metav1.TableOptions{})
	}
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c, err := rest.RESTClientFor(cfg)
	must(t, err)
	o, err := c.Get().SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io, application/json").
		Resource(gvr.Resource).VersionedParams(&metav1.ListOptions{}, runtime.NewParameterCodec(scheme)).Do(t.Context()).Get()
	if err != nil {
		t.Errorf("the table of %s: %v", gvr, err)
		return
	}
	table, ok := o.(*metav1.Table)
	if !ok || len(table.ColumnDefinitions) < 2 {
		t.Error(errors.New("no table of"), gvr, o)
	}
}
