package clients

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/pager"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/client-go/util/retry"
)

// TestDynamicClient does with no Go type what the typed clients do.
func TestDynamicClient(t *testing.T) {
	t.Parallel()
	ns, ctx := namespace(t), t.Context()
	disco, err := discovery.NewDiscoveryClientForConfig(config(t))
	must(t, err)
	mapping, err := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)).RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"})
	must(t, err)
	dyn, err := dynamic.NewForConfig(config(t))
	must(t, err)
	all := dyn.Resource(mapping.Resource)
	r := all.Namespace(ns)

	typed := deployment("web", 2)
	typed.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	must(t, err)
	made, err := r.Create(ctx, &unstructured.Unstructured{Object: content}, metav1.CreateOptions{FieldManager: "dynamic"})
	must(t, err)
	if _, err := r.Create(ctx, &unstructured.Unstructured{Object: content}, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second creation: %v", err)
	}
	rolledOut(t, ns, "web", 2)

	// An old version is refused; with a fresh one it goes.
	must(t, unstructured.SetNestedField(made.Object, int64(1), "spec", "replicas"))
	if _, err := r.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v", err)
	}
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := r.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedField(now.Object, int64(1), "spec", "replicas"); err != nil {
			return err
		}
		_, err = r.Update(ctx, now, metav1.UpdateOptions{})
		return err
	}))
	rolledOut(t, ns, "web", 1)

	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error { // the controller may write its status meanwhile
		scale, err := r.Get(ctx, "web", metav1.GetOptions{}, "scale")
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedField(scale.Object, int64(3), "spec", "replicas"); err != nil {
			return err
		}
		_, err = r.Update(ctx, scale, metav1.UpdateOptions{}, "scale")
		return err
	}))
	rolledOut(t, ns, "web", 3)

	_, err = r.Patch(ctx, "web", types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}`), metav1.PatchOptions{})
	must(t, err)
	now, err := r.Get(ctx, "web", metav1.GetOptions{})
	must(t, err)
	var back appsv1.Deployment
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(now.Object, &back))
	if c := back.Spec.Template.Spec.Containers[0]; c.Image != "toolbox:v1" || len(c.Env) != 1 {
		t.Errorf("after a strategic patch: %+v", c)
	}
	if _, err := all.Namespace(ns).Get(ctx, "nobody", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get of nobody: %v", err)
	}
	if _, err := dyn.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}).List(ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("list of what is not served: %v", err)
	}
	must(t, r.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=web"}))
	eventually(t, "the collection is gone", func() error {
		list, err := r.List(ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
}

// TestPagesAndWatch reads a list by pages and follows it from there.
func TestPagesAndWatch(t *testing.T) {
	t.Parallel()
	ns, ctx := namespace(t), t.Context()
	dyn, err := dynamic.NewForConfig(config(t))
	must(t, err)
	r := dyn.Resource(configMaps).Namespace(ns)
	for i := range 25 {
		_, err := r.Create(ctx, configMap(fmt.Sprintf("c%02d", i)), metav1.CreateOptions{})
		must(t, err)
	}
	pages := 0
	p := pager.New(pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) {
		pages++
		return r.List(ctx, o)
	}))
	p.PageSize = 10
	var names []string
	// Every namespace has a config map with the cluster's authority.
	must(t, p.EachListItem(ctx, metav1.ListOptions{FieldSelector: "metadata.name!=kube-root-ca.crt"}, func(o runtime.Object) error {
		names = append(names, o.(*unstructured.Unstructured).GetName())
		return nil
	}))
	if len(names) != 25 || pages != 3 || names[0] != "c00" || names[24] != "c24" {
		t.Errorf("%d pages with %v", pages, names)
	}

	list, err := r.List(ctx, metav1.ListOptions{})
	must(t, err)
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), watcher{r})
	must(t, err)
	defer w.Stop()
	_, err = r.Create(ctx, configMap("later"), metav1.CreateOptions{})
	must(t, err)
	must(t, r.Delete(ctx, "c00", metav1.DeleteOptions{}))
	for _, want := range []string{"ADDED later", "DELETED c00"} {
		e, ok := <-w.ResultChan()
		if got := fmt.Sprint(e.Type, " ", e.Object.(*unstructured.Unstructured).GetName()); !ok || got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

func configMap(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}}}
}

// watcher is a resource as a RetryWatcher wants it.
type watcher struct{ dynamic.ResourceInterface }

// WatchWithContext implements cache.WatcherWithContext.
func (w watcher) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return w.Watch(ctx, o)
}
