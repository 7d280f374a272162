package clients

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/pager"
	watchtools "k8s.io/client-go/tools/watch"
)

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
	must(t, p.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
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
