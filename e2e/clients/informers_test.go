package clients

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
)

var configMaps = corev1.SchemeGroupVersion.WithResource("configmaps")

// seen notes what an informer tells.
type seen struct {
	mu     sync.Mutex
	events []string
}

func (s *seen) note(what string, o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	a, err := meta.Accessor(o)
	if err != nil {
		what, a = fmt.Sprintf("%s %T", what, o), &metav1.ObjectMeta{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, what+" "+a.GetName())
}

// until waits until an informer has told something.
func (s *seen) until(t *testing.T, event string) {
	t.Helper()
	eventually(t, event, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Contains(s.events, event) {
			return fmt.Errorf("seen %v", s.events)
		}
		return nil
	})
}

func (s *seen) of(informer cache.SharedIndexInformer) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) {
			if initial {
				s.note("found", o)
			} else {
				s.note("added", o)
			}
		},
		UpdateFunc: func(_, o any) { s.note("changed", o) },
		DeleteFunc: func(o any) { s.note("deleted", o) },
	})
	return err
}

// TestInformers follows the same changes with each kind of informer that client-go has.
func TestInformers(t *testing.T) {
	t.Parallel()
	inJSON, inProto := config(t), config(t)
	inJSON.ContentType, inJSON.AcceptContentTypes = "application/json", "application/json"
	inProto.ContentType, inProto.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	dyn, err := dynamic.NewForConfig(config(t))
	must(t, err)
	metas, err := metadata.NewForConfig(config(t))
	must(t, err)
	labelled := func(o *metav1.ListOptions) { o.LabelSelector = "watched=yes" }
	for name, informer := range map[string]func(ns string) cache.SharedIndexInformer{
		"JSON": func(ns string) cache.SharedIndexInformer {
			return informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(inJSON), 0, informers.WithNamespace(ns), informers.WithTweakListOptions(labelled)).Core().V1().ConfigMaps().Informer()
		},
		"protobuf": func(ns string) cache.SharedIndexInformer {
			return informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(inProto), 0, informers.WithNamespace(ns), informers.WithTweakListOptions(labelled)).Core().V1().ConfigMaps().Informer()
		},
		"dynamic": func(ns string) cache.SharedIndexInformer {
			return dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 0, ns, labelled).ForResource(configMaps).Informer()
		},
		"metadata": func(ns string) cache.SharedIndexInformer {
			return metadatainformer.NewFilteredSharedInformerFactory(metas, 0, ns, labelled).ForResource(configMaps).Informer()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			follow(t, ns, informer(ns))
		})
	}
}

func follow(t *testing.T, ns string, informer cache.SharedIndexInformer) {
	maps := clientset(t).CoreV1().ConfigMaps(ns)
	create := func(name, watched string) {
		t.Helper()
		_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"watched": watched}}}, metav1.CreateOptions{})
		must(t, err)
	}
	patch := func(name, p string) {
		t.Helper()
		_, err := maps.Patch(t.Context(), name, types.MergePatchType, []byte(p), metav1.PatchOptions{})
		must(t, err)
	}
	create("before", "yes")
	create("other", "no")
	var s seen
	must(t, s.of(informer))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { informer.Run(stop) })
	defer wg.Wait()
	defer close(stop)
	if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
		t.Fatal("the informer has not synced")
	}
	s.until(t, "found before")
	create("later", "yes")
	s.until(t, "added later")
	patch("before", `{"data":{"a":"1"}}`)
	s.until(t, "changed before")
	// What a selector lets go of is deleted for the informer, and what it takes in is added.
	patch("later", `{"metadata":{"labels":{"watched":"no"}}}`)
	s.until(t, "deleted later")
	patch("other", `{"metadata":{"labels":{"watched":"yes"}}}`)
	s.until(t, "added other")
	must(t, maps.Delete(t.Context(), "before", metav1.DeleteOptions{}))
	s.until(t, "deleted before")
	keys := informer.GetStore().ListKeys()
	if len(keys) != 1 || keys[0] != ns+"/other" {
		t.Error(errors.New("the informer's store has"), keys)
	}
}
