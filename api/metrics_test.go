package api_test

import (
	"context"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/sequencer"
)

// TestMetrics reads the API's figures as Prometheus does.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), func(c *api.Config) {
		reg := prometheus.NewRegistry()
		h, err := api.MetricsHandler(reg)
		if err != nil {
			t.Fatal(err)
		}
		c.Metrics, c.Registerer = h, reg
	})
	k := newKubectl(t, s)
	k.ok("", "create", "configmap", "cm", "--from-literal=a=b")
	k.fails("", "get", "pod", "none")
	k.fails("", "get", "--raw", "/api/v1/namespaces/default/madeup")
	has(t, k.ok("", "get", "--raw", "/metrics"),
		`apiserver_request_total{code="201",group="",resource="configmaps",scope="namespace",subresource="",verb="POST",version="v1"} 1`,
		`apiserver_request_total{code="404",group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1"} 1`,
		`apiserver_request_total{code="404",group="",resource="",scope="",subresource="",verb="LIST",version=""} 1`,
		`apiserver_request_duration_seconds_count{`, `apiserver_current_inflight_requests{request_kind="mutating"} 0`,
		`apiserver_current_inqueue_requests 0`, `go_goroutines`)
}

// blocked is a writer that waits until it is let go.
type blocked struct {
	api.Writer
	begun, free chan struct{}
}

func (b blocked) Submit(ctx context.Context, r sequencer.Request) (sequencer.Result, error) {
	b.begun <- struct{}{}
	<-b.free
	return b.Writer.Submit(ctx, r)
}

// TestTooManyRequests: who finds neither a slot nor a place in the queue is told to come again.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	b := blocked{Writer: store, begun: make(chan struct{}, 10), free: make(chan struct{})}
	s := apitest.Start(t, store, func(c *api.Config) { c.Writer, c.MaxRequests = b, 1 })
	c := typed(t, s, true)
	cm := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		wg.Go(func() {
			if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), cm(name), metav1.CreateOptions{}); err != nil {
				t.Errorf("create %s: %v", name, err)
			}
		})
	}
	<-b.begun
	eventually(t, "a refusal", func() bool {
		err := c.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/default").MaxRetries(0).Do(t.Context()).Error()
		return apierrors.IsTooManyRequests(err)
	})
	if err := c.CoreV1().RESTClient().Get().AbsPath("/readyz").MaxRetries(0).Do(t.Context()).Error(); err != nil {
		t.Errorf("health while it is busy: %v", err)
	}
	close(b.free)
	wg.Wait()
}
