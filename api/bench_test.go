package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"reconcile/api/apitest"
)

// The client (client-go over TLS and HTTP/2, protobuf unless said otherwise) runs in the same process, so that the figures
// are those of both sides.

// BenchmarkCreateConfigMap writes through raft (log in memory), sequencer and controllers.
func BenchmarkCreateConfigMap(b *testing.B) {
	for _, clients := range []int{1, 32, 128} {
		b.Run(strconv.Itoa(clients), func(b *testing.B) {
			s := startReal(b)
			c := typed(b, s, true)
			waitForNamespace(b, c)
			var next atomic.Int64
			work(b, clients, func() error {
				cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", next.Add(1))}, Data: map[string]string{"v": fmt.Sprintf("%0180d", 1)}}
				_, err := c.CoreV1().ConfigMaps("default").Create(b.Context(), cm, metav1.CreateOptions{})
				return err
			})
		})
	}
}

// BenchmarkGetConfigMap reads consistently: each get asks raft whether this server still leads.
func BenchmarkGetConfigMap(b *testing.B) {
	s := startReal(b)
	c := typed(b, s, true)
	waitForNamespace(b, c)
	if _, err := c.CoreV1().ConfigMaps("default").Create(b.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"v": fmt.Sprintf("%0180d", 1)}}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	work(b, 64, func() error {
		_, err := c.CoreV1().ConfigMaps("default").Get(b.Context(), "c", metav1.GetOptions{})
		return err
	})
}

// BenchmarkApply applies config maps of which one value changes, as JSON.
func BenchmarkApply(b *testing.B) {
	s := startReal(b)
	c := typed(b, s, false)
	waitForNamespace(b, c)
	var next atomic.Int64
	work(b, 32, func() error {
		n := next.Add(1)
		m := applycorev1.ConfigMap(fmt.Sprintf("applied-%d", n%640), "default").WithData(map[string]string{"key": fmt.Sprintf("%0180d", 1), "n": fmt.Sprint(n)})
		_, err := c.CoreV1().ConfigMaps("default").Apply(b.Context(), m, metav1.ApplyOptions{FieldManager: "bench", Force: true})
		return err
	})
}

// BenchmarkCreatePod makes pods as a deployment's are, which no scheduler takes.
func BenchmarkCreatePod(b *testing.B) {
	s := startReal(b)
	c := typed(b, s, true)
	waitForNamespace(b, c)
	var next atomic.Int64
	work(b, 64, func() error {
		p := bigPod(int(next.Add(1)))
		p.ManagedFields, p.Spec.NodeName, p.Spec.SchedulerName = nil, "", "none"
		_, err := c.CoreV1().Pods("default").Create(b.Context(), p, metav1.CreateOptions{})
		return err
	})
}

// work runs f from so many clients, and reports operations a second.
func work(b *testing.B, clients int, f func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "ops/s")
}

func waitForNamespace(b testing.TB, c kubernetes.Interface) {
	b.Helper()
	eventually(b, "the namespace default", func() bool {
		_, err := c.CoreV1().Namespaces().Get(b.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
}

// BenchmarkListPods lists 10,000 pods; the body is thrown away, so that little but the server is measured.
func BenchmarkListPods(b *testing.B) {
	store := apitest.New()
	for i := range 10000 {
		store.Put(bigPod(i))
	}
	s := apitest.Start(b, store, nil)
	rc, err := rest.HTTPClientFor(restConfig(b, s, false))
	if err != nil {
		b.Fatal(err)
	}
	for _, form := range []struct{ name, accept string }{
		{"JSON", "application/json"}, {"protobuf", "application/vnd.kubernetes.protobuf"}, {"Table", "application/json;as=Table;v=v1;g=meta.k8s.io"},
	} {
		b.Run(form.name, func(b *testing.B) {
			for range b.N {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.URL+"/api/v1/pods", nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Accept", form.accept)
				req.Header.Set("Accept-Encoding", "identity")
				res, err := rc.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}

func bigPod(i int) *corev1.Pod {
	p := pod(fmt.Sprintf("pod-%05d", i), "n1")
	for j := range 8 {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", j), Value: "some value of an ordinary length"})
	}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "git:cluster", Operation: "Apply", APIVersion: "v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:env":{}}}}}`)}}
	return p
}

// BenchmarkWatch sends changes of one object to 500 watchers.
func BenchmarkWatch(b *testing.B) {
	const watchers = 500
	store := apitest.New()
	s := apitest.Start(b, store, nil)
	o := store.Put(configMapOf("c", 0))
	var got atomic.Int64
	all := make(chan struct{})
	var wg sync.WaitGroup
	var watches []watch.Interface
	c := typed(b, s, true)
	for range watchers {
		w, err := c.CoreV1().ConfigMaps("default").Watch(b.Context(), metav1.ListOptions{ResourceVersion: o.GetResourceVersion()})
		if err != nil {
			b.Fatal(err)
		}
		watches = append(watches, w)
		wg.Go(func() {
			for range w.ResultChan() {
				if got.Add(1) == int64(b.N)*watchers {
					close(all)
				}
			}
		})
	}
	b.ResetTimer()
	began := time.Now()
	for i := range b.N {
		store.Put(configMapOf("c", i))
	}
	<-all
	b.ReportMetric(float64(got.Load())/time.Since(began).Seconds(), "events/s")
	b.StopTimer()
	for _, w := range watches {
		w.Stop()
	}
	wg.Wait()
}

func configMapOf(name string, i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "u"}, Data: map[string]string{"v": fmt.Sprintf("%0180d", i)}}
}
