package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/cluster"
	"reconcile/raftstore"
)

func (r realStore) ViewAt(rev uint64) (api.PastView, error) {
	v, err := r.store.View().At(rev)
	if err != nil {
		return nil, compacted(err)
	}
	return realPast{cluster.NewView(v)}, nil
}

type realPast struct{ *cluster.View }

func (p realPast) Err() error { return compacted(p.Raw().Err()) }

// listing is a list as text: names with the value of "v".
func listing(t *testing.T, c kubernetes.Interface, o metav1.ListOptions) (string, *corev1.ConfigMapList) {
	t.Helper()
	l, err := c.CoreV1().ConfigMaps("default").List(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, cm := range l.Items {
		out = append(out, cm.Name+"="+cm.Data["v"])
	}
	return strings.Join(out, " "), l
}

// TestListsOfThePast: a list of an exact resource version is the one of that moment, whole or in pages, also on the real store; what is no longer kept
// has expired.
func TestListsOfThePast(t *testing.T) {
	t.Parallel()
	real := newRealStore(t)
	mem := apitest.New()
	for name, tc := range map[string]struct {
		s       *apitest.Server
		compact func(*testing.T)
	}{
		"in memory": {apitest.Start(t, mem, nil), func(*testing.T) { mem.Compact() }},
		"real": {apitest.Start(t, apitest.New(), func(c *api.Config) { c.Store, c.Writer = real, real }), func(t *testing.T) {
			v := real.store.View()
			if _, err := real.store.Propose(t.Context(), raftstore.Entry{Base: v.Rev(), Ops: []raftstore.Op{raftstore.Compaction(v.Rev())}}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := typed(t, tc.s, true)
			waitForNamespace(t, c)
			api := c.CoreV1().ConfigMaps("default")
			for i := range 4 {
				cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", i)}, Data: map[string]string{"v": "1"}}
				if _, err := api.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			_, l := listing(t, c, metav1.ListOptions{})
			was := l.ResourceVersion
			_, first := listing(t, c, metav1.ListOptions{Limit: 2})
			if _, err := api.Patch(t.Context(), "c1", "application/merge-patch+json", []byte(`{"data":{"v":"2"}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := api.Delete(t.Context(), "c2", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := api.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c2b"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			exact := metav1.ListOptions{ResourceVersion: was, ResourceVersionMatch: metav1.ResourceVersionMatchExact}
			have, l := listing(t, c, exact)
			if have != "c0=1 c1=1 c2=1 c3=1" || l.ResourceVersion != was {
				t.Errorf("the list at %s is %q, of %s", was, have, l.ResourceVersion)
			}
			if have, _ := listing(t, c, metav1.ListOptions{}); have != "c0=1 c1=2 c2b= c3=1" {
				t.Errorf("the list of now is %q", have)
			}
			if have, _ := listing(t, c, metav1.ListOptions{ResourceVersion: was, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}); have != "c0=1 c1=2 c2b= c3=1" {
				t.Errorf("a list not older than %s is %q", was, have)
			}
			exact.FieldSelector = "metadata.name=c2"
			if have, _ := listing(t, c, exact); have != "c2=1" {
				t.Errorf("what was deleted since is %q", have)
			}
			exact.FieldSelector, exact.Limit = "", 3
			have, l = listing(t, c, exact)
			rest, end := listing(t, c, metav1.ListOptions{Continue: l.Continue})
			if have != "c0=1 c1=1 c2=1" || rest != "c3=1" || end.ResourceVersion != was {
				t.Errorf("in pages the list is %q and %q", have, rest)
			}
			if have, _ := listing(t, c, metav1.ListOptions{ResourceVersion: was, Limit: 10}); have != "c0=1 c1=1 c2=1 c3=1" {
				t.Errorf("a first page of a resource version is of another one: %q", have)
			}
			if have, _ := listing(t, c, metav1.ListOptions{Continue: first.Continue}); have != "c2=1 c3=1" {
				t.Errorf("the page after the changes is %q", have)
			}
			tc.compact(t)
			if _, err := api.List(t.Context(), exact); !apierrors.IsResourceExpired(err) {
				t.Errorf("a list of what was compacted: %v", err)
			}
			_, err := api.List(t.Context(), metav1.ListOptions{Continue: first.Continue})
			var st *apierrors.StatusError
			if !apierrors.IsResourceExpired(err) || !errors.As(err, &st) || st.ErrStatus.Continue == "" {
				t.Fatalf("a page of what was compacted: %v", err)
			}
			if have, _ := listing(t, c, metav1.ListOptions{Continue: st.ErrStatus.Continue}); have != "c2b= c3=1" {
				t.Errorf("the inconsistent rest is %q", have)
			}
		})
	}
}

// TestPagesOfAnotherServer: a list that begins at one server goes on at another.
func TestPagesOfAnotherServer(t *testing.T) {
	t.Parallel()
	one := apitest.Start(t, apitest.New(), nil)
	two := apitest.StartPeer(t, one)
	for i := range 6 {
		one.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c%d", i)}})
	}
	cfg := restConfig(t, one, true)
	a := kubernetes.NewForConfigOrDie(cfg)
	cfg.Host = two.URL
	b := kubernetes.NewForConfigOrDie(cfg)
	_, l := listing(t, a, metav1.ListOptions{Limit: 4})
	one.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "later"}})
	if have, _ := listing(t, b, metav1.ListOptions{Continue: l.Continue}); have != "c4= c5=" {
		t.Errorf("the other server's page is %q", have)
	}
}

// forgetful is a store that compacts while a state of the past is read.
type forgetful struct{ *apitest.Store }

func (f forgetful) ViewAt(rev uint64) (api.PastView, error) {
	v, err := f.Store.ViewAt(rev)
	return forgetfulView{v}, err
}

type forgetfulView struct{ api.PastView }

func (forgetfulView) Err() error { return api.ErrCompacted }

// TestStateForgottenWhileRead: what may have holes is not answered.
func TestStateForgottenWhileRead(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	s := apitest.Start(t, store, func(c *api.Config) { c.Store = forgetful{store} })
	was := currentRev(store)
	store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}})
	o := metav1.ListOptions{ResourceVersion: was, ResourceVersionMatch: metav1.ResourceVersionMatchExact}
	if _, err := typed(t, s, true).CoreV1().ConfigMaps("").List(context.Background(), o); !apierrors.IsResourceExpired(err) {
		t.Errorf("a list of a state that was forgotten while it was read: %v", err)
	}
}
