package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"reconcile/api"
	"reconcile/api/apitest"
)

// TestEvictionHonoursBudgets evicts pods with and without a disruption budget.
func TestEvictionHonoursBudgets(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	s := apitest.Start(t, store, nil)
	c := typed(t, s, true)
	ctx := t.Context()
	for _, name := range []string{"a", "b"} {
		p := pod(name, "")
		p.Labels = map[string]string{"app": "web"}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		store.Put(p)
	}
	least := intstr.FromInt32(1)
	budget, err := c.PolicyV1().PodDisruptionBudgets("default").Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{})
	if err != nil || budget.Generation != 1 {
		t.Fatal(budget, err)
	}
	evict := func(name string) error {
		e := &policyv1.Eviction{TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
		// A client would wait ten seconds and try again, ten times.
		return c.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/pods/" + name + "/eviction").MaxRetries(0).Body(e).Do(ctx).Error()
	}
	refused := func(err error, message string) {
		t.Helper()
		var st *apierrors.StatusError
		if !apierrors.IsTooManyRequests(err) || !errors.As(err, &st) || len(st.ErrStatus.Details.Causes) != 1 ||
			st.ErrStatus.Details.Causes[0].Type != policyv1.DisruptionBudgetCause || st.ErrStatus.Details.Causes[0].Message != message {
			t.Errorf("eviction: %v, want %q", err, message)
		}
	}
	refused(evict("a"), "The disruption budget web is still being processed by the server.")
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 1, ExpectedPods: 2}
	if _, err := c.PolicyV1().PodDisruptionBudgets("default").UpdateStatus(ctx, budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict("a"); err != nil {
		t.Fatal(err)
	}
	got, err := c.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil || got.Status.DisruptionsAllowed != 0 || len(got.Status.DisruptedPods) != 1 {
		t.Errorf("budget after an eviction: %+v, %v", got.Status, err)
	}
	if _, err := c.CoreV1().Pods("default").Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the evicted pod: %v", err)
	}
	refused(evict("b"), "The disruption budget web needs 1 healthy pods and has 2 currently")
	if _, err := c.CoreV1().Pods("default").Get(ctx, "b", metav1.GetOptions{}); err != nil {
		t.Errorf("a refused eviction deleted: %v", err)
	}
	done := pod("done", "")
	done.Labels, done.Status.Phase = map[string]string{"app": "web"}, corev1.PodSucceeded
	store.Put(done)
	if err := evict("done"); err != nil {
		t.Errorf("a pod that has ended: %v", err)
	}
}

// TestDebugAndApprove changes objects by subresources of their own, with kubectl.
func TestDebugAndApprove(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	seed(store)
	s := apitest.Start(t, store, nil)
	k := newKubectl(t, s)
	k.ok("", "run", "one", "--image=nginx:1")
	k.ok("", "debug", "one", "--image=busybox", "-c", "look", "--attach=false")
	has(t, k.ok("", "get", "pod", "one", "-o", "jsonpath={.spec.ephemeralContainers[0].name} {.spec.ephemeralContainers[0].terminationMessagePolicy} {.spec.containers[0].image}"), "look File nginx:1")
	has(t, k.fails("", "patch", "pod", "one", "--subresource=ephemeralcontainers", "--type=json", "-p", `[{"op":"remove","path":"/spec/ephemeralContainers"}]`), "existing ephemeral containers")

	b, err := os.ReadFile("../admission/testdata/kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	has(t, k.ok(document(t, b, "CertificateSigningRequest"), "create", "-f", "-"), "certificatesigningrequest.certificates.k8s.io/csr created")
	has(t, k.ok("", "get", "csr"), "example.com/signer", "admin", "Pending")
	has(t, k.ok("", "certificate", "approve", "csr"), "approved")
	has(t, k.ok("", "get", "csr"), "Approved")
	has(t, k.fails("", "certificate", "deny", "csr"), "")
	has(t, k.ok("", "get", "csr", "csr", "-o", "yaml"), "KubectlApprove", "lastTransitionTime", "system:masters")
}

// document finds the first document of a kind.
func document(t *testing.T, all []byte, kind string) string {
	t.Helper()
	for _, doc := range splitDocs(all) {
		var meta metav1.TypeMeta
		if yaml.Unmarshal(doc, &meta) == nil && meta.Kind == kind {
			return string(doc)
		}
	}
	t.Fatalf("no %s", kind)
	return ""
}

// TestProxy reaches a pod, a service and what is not there, by http and by https with a certificate that nobody signed.
func TestProxy(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s auth=%q tls=%v", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), r.TLS != nil)
	})
	behind, secure := httptest.NewServer(page), httptest.NewTLSServer(page)
	defer behind.Close()
	defer secure.Close()
	// The pod's address is one that a pod can have; nobody must be asked about the way to it.
	const address = "10.244.0.7"
	ways := map[string]net.Addr{address + ":8080": behind.Listener.Addr(), address + ":8443": secure.Listener.Addr()}
	dial := func(ctx context.Context, network, to string) (net.Conn, error) {
		at, ok := ways[to]
		if !ok {
			return nil, fmt.Errorf("nothing listens at %s", to)
		}
		return (&net.Dialer{}).DialContext(ctx, network, at.String())
	}
	store := apitest.New()
	p := pod("web", "n1")
	p.Status.PodIP = address
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080}}
	store.Put(p)
	store.Put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}}}, Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080))}},
	}
	store.Put(slice)
	k := newKubectl(t, apitest.Start(t, store, func(c *api.Config) { c.Dial = dial }))
	const base = "/api/v1/namespaces/default/"
	has(t, k.ok("", "get", "--raw", base+"pods/web/proxy/a/c?x=1"), `GET /a/c?x=1 auth="" tls=false`)
	has(t, k.ok("", "get", "--raw", base+"pods/http:web:8080/proxy/"), "GET /")
	has(t, k.ok("", "get", "--raw", base+"pods/https:web:8443/proxy/s"), `GET /s auth="" tls=true`)
	has(t, k.ok("", "get", "--raw", base+"services/web:http/proxy/x"), "GET /x")
	has(t, k.ok("", "get", "--raw", base+"services/web/proxy/x"), "GET /x")
	has(t, k.fails("", "get", "--raw", base+"services/web:81/proxy/x"), `no service port "81" found`)
	has(t, k.fails("", "get", "--raw", base+"pods/none/proxy/x"), "not found")
	has(t, k.fails("", "get", "--raw", base+"pods/web:81/proxy/x"), "error trying to reach service: ", "nothing listens at 10.244.0.7:81")
	// What only the server can reach is not reached by it for somebody else.
	for _, own := range []string{"127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"} {
		p.Status.PodIP, slice.Endpoints[0].Addresses = own, []string{own}
		store.Put(p)
		store.Put(slice)
		has(t, k.fails("", "get", "--raw", base+"pods/web/proxy/x"), "address not allowed")
		has(t, k.fails("", "get", "--raw", base+"services/web/proxy/x"), "address not allowed")
	}
}

func splitDocs(all []byte) [][]byte { return bytes.Split(all, []byte("\n---\n")) }

// TestActionsAreNoTables asks for the answer of an action as a table, which only what is stored can be shown as.
func TestActionsAreNoTables(t *testing.T) {
	t.Parallel()
	c := typed(t, apitest.Start(t, apitest.New(), nil), false)
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/", Verb: "get"}}}
	post := func(accept string) int {
		code := 0
		c.AuthorizationV1().RESTClient().Post().Resource("selfsubjectaccessreviews").SetHeader("Accept", accept).Body(review).Do(t.Context()).StatusCode(&code)
		return code
	}
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	if got := post(table); got != http.StatusNotAcceptable {
		t.Errorf("as a table: %d, want 406", got)
	}
	if got := post(table + ", application/json"); got != http.StatusCreated {
		t.Errorf("as a table or whole: %d, want 201", got)
	}
}
