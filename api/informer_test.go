package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"reconcile/api/apitest"
)

func restConfig(t testing.TB, s *apitest.Server, proto bool) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = -1
	if proto {
		cfg.ContentType = runtime.ContentTypeProtobuf
		cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	return cfg
}

func typed(t testing.TB, s *apitest.Server, proto bool) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(restConfig(t, s, proto))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forms runs a test with a client that speaks JSON and with one that speaks protobuf.
func forms(t *testing.T, f func(t *testing.T, proto bool)) {
	t.Helper()
	for _, proto := range []bool{false, true} {
		t.Run(map[bool]string{false: "JSON", true: "protobuf"}[proto], func(t *testing.T) { f(t, proto) })
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	l := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}},
	}
}

func TestTypedClient(t *testing.T) {
	t.Parallel()
	forms(t, func(t *testing.T, proto bool) {
		s := apitest.Start(t, apitest.New(), nil)
		c := typed(t, s, proto)
		ctx := t.Context()
		d, err := c.AppsV1().Deployments("default").Create(ctx, newDeployment("web", 2), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d.Generation != 1 || d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || d.Spec.Template.Spec.SecurityContext == nil {
			t.Errorf("not defaulted: %+v", d)
		}
		sc, err := c.AppsV1().Deployments("default").GetScale(ctx, "web", metav1.GetOptions{})
		if err != nil || sc.Spec.Replicas != 2 || sc.Status.Selector != "app=web" {
			t.Errorf("scale: %+v, %v", sc, err)
		}
		sc.Spec.Replicas = 5
		if _, err := c.AppsV1().Deployments("default").UpdateScale(ctx, "web", sc, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
		d.Spec.Paused = true
		if _, err := c.AppsV1().Deployments("default").Update(ctx, d, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("update with the old version: %v", err)
		}
		d, err = c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil || *d.Spec.Replicas != 5 || d.Generation != 2 {
			t.Errorf("after scaling: %+v, %v", d, err)
		}
		d.Status.Replicas, d.Status.ReadyReplicas, d.Spec.Replicas = 1, 1, ptr.To[int32](99)
		d, err = c.AppsV1().Deployments("default").UpdateStatus(ctx, d, metav1.UpdateOptions{})
		if err != nil || d.Status.ReadyReplicas != 1 || *d.Spec.Replicas != 5 {
			t.Errorf("status: %+v, %v", d, err)
		}
		cm, err := c.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "cm-"}}, metav1.CreateOptions{})
		if err != nil || len(cm.Name) != 8 {
			t.Errorf("generateName: %v, %v", cm, err)
		}
		if err := c.CoreV1().ConfigMaps("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
		list, err := c.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 0 || list.ResourceVersion == "" {
			t.Errorf("after deletecollection: %+v, %v", list, err)
		}
		uid := types.UID("other")
		err = c.AppsV1().Deployments("default").Delete(ctx, "web", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if !apierrors.IsConflict(err) {
			t.Errorf("delete with another UID: %v", err)
		}
		if err := c.AppsV1().Deployments("default").Delete(ctx, "web", metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
			t.Error(err)
		}
		if err := c.AppsV1().Deployments("default").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		if _, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("after delete: %v", err)
		}
		_, err = c.CoreV1().ConfigMaps("nowhere").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
		if !apierrors.IsNotFound(err) || err.Error() != `namespaces "nowhere" not found` {
			t.Errorf("create in no namespace: %v", err)
		}
		s.Store.Put(pod("p", ""))
		bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
		if err := c.CoreV1().Pods("default").Bind(ctx, bind, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
		if err := c.CoreV1().Pods("default").Bind(ctx, bind, metav1.CreateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("second binding: %v", err)
		}
	})
}

// TestInformers syncs and follows with client-go's informers, which stream their first list (sendInitialEvents).
func TestInformers(t *testing.T) {
	t.Parallel()
	forms(t, func(t *testing.T, proto bool) {
		s := apitest.Start(t, apitest.New(), nil)
		s.Store.Put(pod("a", "n1"))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := informers.NewSharedInformerFactory(typed(t, s, proto), 0)
		pods := f.Core().V1().Pods().Lister()
		inf := f.Core().V1().Pods().Informer()
		f.Start(ctx.Done())
		defer f.Shutdown()
		defer cancel()
		if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
			t.Fatal("the informer did not sync")
		}
		if _, err := pods.Pods("default").Get("a"); err != nil {
			t.Error(err)
		}
		s.Store.Put(pod("b", "n1"))
		eventually(t, "pod b", func() bool { _, err := pods.Pods("default").Get("b"); return err == nil })
		// The server restarts and has forgotten the past: the informer lists again.
		s.Stop()
		s.Store.Put(pod("c", "n1"))
		s.Store.Compact()
		s.Run(t)
		eventually(t, "pod c", func() bool { _, err := pods.Pods("default").Get("c"); return err == nil })
		if err := typed(t, s, proto).CoreV1().Pods("default").Delete(ctx, "b", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
			t.Error(err)
		}
		eventually(t, "no pod b", func() bool { _, err := pods.Pods("default").Get("b"); return apierrors.IsNotFound(err) })
	})
}

func TestMetadataClient(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	s.Store.Put(pod("a", "n1"))
	c, err := metadata.NewForConfig(restConfig(t, s, false))
	if err != nil {
		t.Fatal(err)
	}
	gvr := corev1.SchemeGroupVersion.WithResource("pods")
	list, err := c.Resource(gvr).Namespace("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "a" || list.Items[0].Labels["app"] != "a" {
		t.Fatalf("list: %+v, %v", list, err)
	}
	w, err := c.Resource(gvr).Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	s.Store.Put(pod("b", "n1"))
	e := <-w.ResultChan()
	if p, ok := e.Object.(*metav1.PartialObjectMetadata); !ok || e.Type != watch.Added || p.Name != "b" {
		t.Errorf("event: %+v", e)
	}
}

// TestWatchSelection sees an object enter and leave a selection.
func TestWatchSelection(t *testing.T) {
	t.Parallel()
	forms(t, func(t *testing.T, proto bool) {
		s := apitest.Start(t, apitest.New(), nil)
		c := typed(t, s, proto)
		w, err := c.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{LabelSelector: "on=yes", ResourceVersion: "1", TimeoutSeconds: ptr.To[int64](20)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		p := pod("a", "n1")
		s.Store.Put(p)
		p.Labels["on"] = "yes"
		in := s.Store.Put(p)
		p.Status.Message = "changed"
		s.Store.Put(p)
		p.Labels["on"] = "no"
		out := s.Store.Put(p)
		p.Labels["on"] = "yes"
		s.Store.Put(p)
		if err := c.CoreV1().Pods("default").Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, want := range []watch.EventType{watch.Added, watch.Modified, watch.Deleted, watch.Added, watch.Deleted} {
			e := <-w.ResultChan()
			o, ok := e.Object.(*corev1.Pod)
			if !ok || e.Type != want {
				t.Fatalf("after %v got %s %v, want %s", got, e.Type, e.Object, want)
			}
			got = append(got, string(e.Type)+" "+o.ResourceVersion)
		}
		if got[0] != "ADDED "+in.GetResourceVersion() || got[2] != "DELETED "+out.GetResourceVersion() {
			t.Errorf("revisions: %v", got)
		}
	})
}

func TestWatchRules(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	s := apitest.Start(t, store, nil)
	store.Put(pod("a", "n1"))
	rc, err := rest.HTTPClientFor(restConfig(t, s, false))
	if err != nil {
		t.Fatal(err)
	}
	lines := func(query string) []string {
		t.Helper()
		res, err := rc.Get(s.URL + "/api/v1/pods?watch=true&timeoutSeconds=1&" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if ct := res.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s: Content-Type %q", query, ct)
		}
		var out []string
		sc := bufio.NewScanner(res.Body)
		for sc.Scan() {
			var e struct {
				Type   string
				Object struct {
					Kind     string
					Reason   string
					Code     int
					Metadata struct {
						Name            string
						ResourceVersion string
						Annotations     map[string]string
					}
				}
			}
			if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			switch e.Type {
			case "ERROR":
				out = append(out, fmt.Sprintf("ERROR %s %d", e.Object.Reason, e.Object.Code))
			case "BOOKMARK":
				out = append(out, "BOOKMARK "+e.Object.Kind+" "+e.Object.Metadata.Annotations["k8s.io/initial-events-end"])
			default:
				out = append(out, e.Type+" "+e.Object.Metadata.Name)
			}
		}
		return out
	}
	for _, tc := range []struct{ query, want string }{
		{"", "ADDED a"},
		{"resourceVersion=0", "ADDED a"},
		{"resourceVersion=1", "ADDED a"},
		{"resourceVersion=" + currentRev(store), ""},
		{"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "ADDED a|BOOKMARK Pod true"},
		{"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dx", "BOOKMARK Pod true"},
	} {
		if got := strings.Join(lines(tc.query), "|"); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.query, got, tc.want)
		}
	}
	store.Compact()
	store.Put(pod("b", "n1"))
	if got := strings.Join(lines("resourceVersion=1"), "|"); got != "ERROR Expired 410" {
		t.Errorf("lost history: %s", got)
	}
	for _, tc := range []struct {
		query string
		code  int
	}{
		{"sendInitialEvents=true", 422},
		{"resourceVersion=x", 400},
		{"fieldSelector=spec.foo%3D1", 400},
		{"labelSelector=%21%21", 400},
	} {
		res, err := rc.Get(s.URL + "/api/v1/pods?watch=true&" + tc.query)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tc.code {
			t.Errorf("%s: %d, want %d", tc.query, res.StatusCode, tc.code)
		}
	}
}

func currentRev(s *apitest.Store) string { return fmt.Sprint(s.View().Rev()) }

// TestPages lists in pages while objects come and go: the pages show one state.
func TestPages(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	s := apitest.Start(t, store, nil)
	for _, ns := range []string{"default", "a", "a-b"} {
		store.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		for i := range 7 {
			store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("c%d", i)}})
		}
	}
	c := typed(t, s, true)
	seen := map[string]int{}
	opts := metav1.ListOptions{Limit: 4}
	for page := 0; ; page++ {
		l, err := c.CoreV1().ConfigMaps("").List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.Items {
			seen[l.Items[i].Namespace+"/"+l.Items[i].Name]++
		}
		if page == 0 && (l.RemainingItemCount == nil || *l.RemainingItemCount != 17) {
			t.Errorf("remaining: %v", l.RemainingItemCount)
		}
		store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("new%d", page)}})
		if opts.Continue = l.Continue; opts.Continue == "" {
			break
		}
	}
	if len(seen) != 21 {
		t.Errorf("saw %d objects: %v", len(seen), seen)
	}
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s was listed %d times", k, n)
		}
	}
	store.Compact()
	if _, err := c.CoreV1().ConfigMaps("").List(t.Context(), metav1.ListOptions{Continue: "eyJydiI6OSwiYWZ0ZXIiOiJ4In0"}); !apierrors.IsResourceExpired(err) {
		t.Errorf("a token of a state that is not kept: %v", err)
	}
}

// TestAnonymous holds the words of refusals against Kubernetes'.
func TestAnonymous(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	cfg := rest.AnonymousClientConfig(restConfig(t, s, false))
	rc, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		res, err := rc.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, strings.TrimSpace(string(b))
	}
	for path, want := range map[string]string{
		"/api/v1/pods":                      `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope","reason":"Forbidden","details":{"kind":"pods"},"code":403}`,
		"/api/v1/namespaces/default/pods/x": `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" is forbidden: User \"system:anonymous\" cannot get resource \"pods\" in API group \"\" in the namespace \"default\"","reason":"Forbidden","details":{"name":"x","kind":"pods"},"code":403}`,
		"/apis/apps/v1/deployments?watch=1": `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps is forbidden: User \"system:anonymous\" cannot watch resource \"deployments\" in API group \"apps\" at the cluster scope","reason":"Forbidden","details":{"group":"apps","kind":"deployments"},"code":403}`,
		"/metrics":                          `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"forbidden: User \"system:anonymous\" cannot get path \"/metrics\"","reason":"Forbidden","details":{},"code":403}`,
	} {
		if code, body := get(path); code != http.StatusForbidden || body != want {
			t.Errorf("%s: %d\n got %s\nwant %s", path, code, body, want)
		}
	}
	for path, want := range map[string]string{"/livez": "ok", "/readyz": "ok", "/healthz": "ok", "/readyz?verbose": "[+]ping ok\nreadyz check passed"} {
		if code, body := get(path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, body := get("/version"); code != http.StatusOK || !strings.Contains(body, "v1.36.3") {
		t.Errorf("/version: %d %s", code, body)
	}
}

// readLines gives a reader's lines; the channel closes at its end.
func readLines(r io.Reader) <-chan string {
	out := make(chan string, 100)
	go func() {
		defer close(out)
		sc := bufio.NewScanner(r)
		for sc.Scan() {
			out <- sc.Text()
		}
	}()
	return out
}
