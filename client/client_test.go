package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"reconcile/api/apitest"
	"reconcile/client"
	"reconcile/object"
	"reconcile/pki"
)

var (
	_ object.Receiver = (*receiver)(nil)
	_ interface {
		Follow(context.Context, object.Selection, object.Receiver) error
		Get(context.Context, object.Key) (object.Object, error)
		Create(context.Context, object.Object) (object.Object, error)
		Update(context.Context, object.Object) (object.Object, error)
		UpdateStatus(context.Context, object.Object) (object.Object, error)
		Delete(context.Context, object.Key, string) error
	} = (*client.Client)(nil)
)

// receiver keeps what it was given.
type receiver struct {
	mu       sync.Mutex
	have     map[string]string
	replaced int
	wake     chan struct{}
}

func newReceiver() *receiver {
	return &receiver{have: map[string]string{}, wake: make(chan struct{}, 1)}
}

func (r *receiver) Replace(all []object.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.have = map[string]string{}
	for _, o := range all {
		r.have[o.GetName()] = o.GetResourceVersion()
	}
	r.replaced++
	r.signal()
}

func (r *receiver) Upsert(o object.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.have[o.GetName()] = o.GetResourceVersion()
	r.signal()
}

func (r *receiver) Remove(k object.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.have, k.Name)
	r.signal()
}

func (r *receiver) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// until waits for a condition.
func (r *receiver) until(t *testing.T, what string, ok func(names []string, replaced int) bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		r.mu.Lock()
		names, n := slices.Sorted(maps.Keys(r.have)), r.replaced
		r.mu.Unlock()
		if ok(names, n) {
			return
		}
		select {
		case <-r.wake:
		case <-deadline:
			t.Fatalf("waited in vain for %s; have %v after %d lists", what, names, n)
		}
	}
}

func (r *receiver) untilNames(t *testing.T, want ...string) {
	t.Helper()
	r.until(t, fmt.Sprint(want), func(names []string, _ int) bool { return slices.Equal(names, want) })
}

func connect(t *testing.T, spec pki.Spec, servers ...*apitest.Server) *client.Client {
	t.Helper()
	id, err := servers[0].Authority.Identity(spec)
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.URL)
	}
	cfg := pki.ClientTLS(id, servers[0].Authority.Pool(), "")
	c, err := client.New(client.Config{Servers: urls, TLS: cfg, Backoff: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"v": value}}
}

func TestWritesAndReads(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := connect(t, pki.AdminSpec(), s)
	ctx := t.Context()
	made, err := c.Create(ctx, configMap("a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if made.GetUID() == "" || made.GetResourceVersion() == "" || made.GetObjectKind().GroupVersionKind().Kind != "ConfigMap" {
		t.Errorf("created: %v", made)
	}
	if _, err := c.Create(ctx, configMap("a", "1")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	next := object.Copy(made).(*corev1.ConfigMap)
	next.Data["v"] = "2"
	if _, err := c.Update(ctx, next); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Update(ctx, next); !apierrors.IsConflict(err) {
		t.Errorf("update with the old version: %v", err)
	}
	next.ResourceVersion, next.Data["v"] = "", "3"
	if _, err := c.Update(ctx, next); err != nil {
		t.Errorf("update with no version: %v", err)
	}
	key := object.KeyOf(made)
	got, err := c.Get(ctx, key)
	if err != nil || got.(*corev1.ConfigMap).Data["v"] != "3" {
		t.Errorf("get: %v, %v", got, err)
	}
	if err := c.Delete(ctx, key, "other-uid"); !apierrors.IsConflict(err) {
		t.Errorf("delete with another UID: %v", err)
	}
	if err := c.Delete(ctx, key, string(made.GetUID())); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, key); !apierrors.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := c.Update(ctx, next); !apierrors.IsNotFound(err) {
		t.Errorf("update after delete: %v", err)
	}
}

func TestStatusOfANodeByItsAgent(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := connect(t, pki.NodeSpec("n1", nil), s)
	ctx := t.Context()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	if _, err := c.Create(ctx, node); err != nil {
		t.Fatal(err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	got, err := c.UpdateStatus(ctx, node)
	if err != nil || len(got.(*corev1.Node).Status.Conditions) != 1 {
		t.Errorf("status: %v, %v", got, err)
	}
	other := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
	if _, err := c.Create(ctx, other); !apierrors.IsForbidden(err) {
		t.Errorf("another's node: %v", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n1", Namespace: "kube-node-lease"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("n1")}}
	if _, err := c.Create(ctx, lease); err != nil {
		t.Error(err)
	}
	if _, err := c.Create(ctx, configMap("a", "1")); !apierrors.IsForbidden(err) {
		t.Errorf("a config map by an agent: %v", err)
	}
}

// TestFollow sees changes, a restart of the server, lost history, and selections.
func TestFollow(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"protobuf", "JSON"} {
		t.Run(kind, func(t *testing.T) {
			resource, put := "configmaps", func(s *apitest.Store, name string) { s.Put(configMap(name, "1")) }
			if kind == "JSON" {
				resource, put = "commits", func(s *apitest.Store, name string) {
					s.Put(&object.Commit{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u"}})
				}
			}
			store := apitest.New()
			s := apitest.Start(t, store, nil)
			put(store, "a")
			c := connect(t, pki.AdminSpec(), s)
			ctx, cancel := context.WithCancel(t.Context())
			r := newReceiver()
			done := make(chan error, 1)
			go func() { done <- c.Follow(ctx, object.Selection{Resource: resource}, r) }()
			r.untilNames(t, "a")
			put(store, "b")
			r.untilNames(t, "a", "b")

			s.Stop()
			put(store, "c")
			s.Run(t)
			r.untilNames(t, "a", "b", "c")
			r.until(t, "no second list", func(_ []string, n int) bool { return n == 1 })

			s.Stop()
			put(store, "d")
			store.Compact()
			s.Run(t)
			r.untilNames(t, "a", "b", "c", "d")
			r.until(t, "a second list", func(_ []string, n int) bool { return n == 2 })

			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Follow ended with %v", err)
			}
		})
	}
}

func TestFollowASelection(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	c := connect(t, pki.AdminSpec(), apitest.Start(t, store, nil))
	ctx, cancel := context.WithCancel(t.Context())
	r := newReceiver()
	done := make(chan error, 1)
	go func() {
		done <- c.Follow(ctx, object.Selection{Resource: "pods", FieldSelector: "spec.nodeName=n1"}, r)
	}()
	r.until(t, "the first list", func(_ []string, n int) bool { return n == 1 })
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}}
	store.Put(pod)
	pod.Spec.NodeName = "n1"
	store.Put(pod)
	r.untilNames(t, "p")
	pod.Spec.NodeName = "n2"
	store.Put(pod)
	r.untilNames(t)
	cancel()
	<-done
	if err := c.Follow(t.Context(), object.Selection{Resource: "pods", FieldSelector: "spec.foo=1"}, r); !apierrors.IsBadRequest(err) {
		t.Errorf("a bad selector: %v", err)
	}
}

// TestSeveralServers stops the one in use.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	one := apitest.Start(t, store, nil)
	two := apitest.StartPeer(t, one)
	c := connect(t, pki.AdminSpec(), one, two)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newReceiver()
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, object.Selection{Resource: "configmaps"}, r) }()
	if _, err := c.Create(ctx, configMap("a", "1")); err != nil {
		t.Fatal(err)
	}
	r.untilNames(t, "a")
	one.Stop()
	store.Put(configMap("b", "1"))
	r.untilNames(t, "a", "b")
	if _, err := c.Create(ctx, configMap("c", "1")); err != nil {
		t.Errorf("create at the second server: %v", err)
	}
	two.Stop()
	if _, err := c.Get(ctx, object.Key{Resource: "configmaps", Namespace: "default", Name: "a"}); err == nil {
		t.Error("a get with no server succeeded")
	}
	one.Run(t)
	r.untilNames(t, "a", "b", "c")
	cancel()
	<-done
}

func TestFromKubeconfig(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	cfg, err := client.FromKubeconfig(s.Kubeconfig, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	items, err := c.List(t.Context(), object.Selection{Resource: "namespaces"})
	if err != nil || len(items) != 4 {
		t.Errorf("namespaces: %d, %v", len(items), err)
	}
}
