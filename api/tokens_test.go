package api_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/object"
)

// tokenLab is a server whose clock can be set forward, with a service account and a pod of it.
type tokenLab struct {
	t     *testing.T
	s     *apitest.Server
	admin kubernetes.Interface
	later atomic.Int64
	// tokens signs as the server does.
	tokens api.Tokens
}

func newTokenLab(t *testing.T) *tokenLab {
	l := &tokenLab{t: t}
	store := apitest.New()
	l.s = apitest.Start(t, store, func(c *api.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(l.later.Load())) }
		l.tokens = c.Tokens
	})
	l.admin = typed(t, l.s, true)
	if _, err := l.admin.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := pod("mine", "n1")
	p.UID, p.Spec.ServiceAccountName = "mine-uid", "robot"
	store.Put(p)
	store.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1-uid"}})
	return l
}

func (l *tokenLab) request(spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequest, error) {
	return l.admin.CoreV1().ServiceAccounts("default").CreateToken(l.t.Context(), "robot", &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
}

func (l *tokenLab) token(spec authenticationv1.TokenRequestSpec) string {
	l.t.Helper()
	tr, err := l.request(spec)
	if err != nil || tr.Status.Token == "" {
		l.t.Fatal(tr, err)
	}
	return tr.Status.Token
}

// whoami asks with a token, and nothing else, who one is.
func (l *tokenLab) whoami(token string) (authenticationv1.UserInfo, error) {
	l.t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", l.s.Kubeconfig)
	if err != nil {
		l.t.Fatal(err)
	}
	cfg = rest.AnonymousClientConfig(cfg)
	cfg.BearerToken = token
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	me, err := c.AuthenticationV1().SelfSubjectReviews().Create(l.t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, err
	}
	if _, err := c.CoreV1().Pods("default").List(l.t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `User "system:serviceaccount:default:robot"`) {
		l.t.Errorf("list pods with a token: %v", err)
	}
	return me.Status.UserInfo, nil
}

func (l *tokenLab) unauthorized(what, token string) {
	l.t.Helper()
	if _, err := l.whoami(token); !apierrors.IsUnauthorized(err) {
		l.t.Errorf("%s: %v, want 401", what, err)
	}
}

func (l *tokenLab) review(token string, audiences ...string) authenticationv1.TokenReviewStatus {
	l.t.Helper()
	r, err := l.admin.AuthenticationV1().TokenReviews().Create(l.t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	return r.Status
}

func TestServiceAccountTokens(t *testing.T) {
	t.Parallel()
	l := newTokenLab(t)
	free := l.token(authenticationv1.TokenRequestSpec{})
	bound := l.token(authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "mine-uid"}})
	vault := l.token(authenticationv1.TokenRequestSpec{Audiences: []string{"vault", "other"}})

	who, err := l.whoami(free)
	if err != nil || who.Username != "system:serviceaccount:default:robot" || who.UID == "" ||
		strings.Join(who.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" {
		t.Errorf("a token's user: %+v, %v", who, err)
	}
	who, err = l.whoami(bound)
	const extra = "authentication.kubernetes.io/"
	if err != nil || who.Extra[extra+"pod-name"][0] != "mine" || who.Extra[extra+"pod-uid"][0] != "mine-uid" || who.Extra[extra+"node-name"][0] != "n1" || who.Extra[extra+"node-uid"][0] != "n1-uid" {
		t.Errorf("a pod's token's user: %+v, %v", who, err)
	}
	l.unauthorized("a token for others", vault)
	l.unauthorized("nonsense", "nonsense")
	l.unauthorized("a changed token", free[:len(free)-8]+"AAAAAAAA")

	if st := l.review(free); !st.Authenticated || st.User.Username != "system:serviceaccount:default:robot" || len(st.Audiences) != 1 {
		t.Errorf("review: %+v", st)
	}
	if st := l.review(vault, "vault", "third"); !st.Authenticated || strings.Join(st.Audiences, " ") != "vault" {
		t.Errorf("review for an audience: %+v", st)
	}
	for _, st := range []authenticationv1.TokenReviewStatus{l.review(vault), l.review(free, "vault"), l.review("nonsense")} {
		if st.Authenticated || st.Error == "" || st.User.Username != "" {
			t.Errorf("review of what is not good: %+v", st)
		}
	}

	// The pod goes, and its token with it; then time, and then the account.
	if err := l.admin.CoreV1().Pods("default").Delete(t.Context(), "mine", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	l.unauthorized("the token of a pod that has gone", bound)
	if _, err := l.whoami(free); err != nil {
		t.Errorf("the account's own token: %v", err)
	}
	long := l.token(authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](7200)})
	l.later.Store(int64(62 * time.Minute))
	l.unauthorized("after its hour", free)
	if _, err := l.whoami(long); err != nil {
		t.Errorf("within its two hours: %v", err)
	}
	if st := l.review(free); st.Authenticated || !strings.Contains(st.Error, "expired") {
		t.Errorf("review after its hour: %+v", st)
	}
	accounts := l.admin.CoreV1().ServiceAccounts("default")
	if err := accounts.Delete(t.Context(), "robot", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.unauthorized("an account that has gone", long)
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.unauthorized("an account of the same name", long)
}

// TestTokensOfSecrets: what the token controller signed is good while its Secret holds it and its account is there.
func TestTokensOfSecrets(t *testing.T) {
	t.Parallel()
	l := newTokenLab(t)
	ctx := t.Context()
	account, err := l.admin.CoreV1().ServiceAccounts("default").Get(ctx, "robot", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secrets := l.admin.CoreV1().Secrets("default")
	hold := func(name string, change func(*object.LegacyToken)) string {
		c := object.LegacyToken{Issuer: object.LegacyTokenIssuer, Namespace: "default", Secret: name, Account: "robot", AccountUID: string(account.UID), Subject: "system:serviceaccount:default:robot"}
		if change != nil {
			change(&c)
		}
		token, err := l.tokens.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
			Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(token)}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := hold("good", nil)
	who, err := l.whoami(good)
	if err != nil || who.Username != "system:serviceaccount:default:robot" || who.UID != string(account.UID) ||
		strings.Join(who.Groups, " ") != "system:serviceaccounts system:serviceaccounts:default system:authenticated" {
		t.Errorf("a secret's token's user: %+v, %v", who, err)
	}
	if st := l.review(good, "vault"); st.Authenticated {
		t.Errorf("it is good for others: %+v", st)
	}
	l.unauthorized("another account's UID", hold("stale", func(c *object.LegacyToken) { c.AccountUID = "old" }))
	l.unauthorized("another subject", hold("subject", func(c *object.LegacyToken) { c.Subject = "system:serviceaccount:kube-system:robot" }))
	l.unauthorized("a token that another secret holds", hold("moved", func(c *object.LegacyToken) { c.Secret = "subject" }))
	// A new token in the secret ends the old one, and so does the secret's end.
	changed := hold("changed", nil)
	if _, err := secrets.Patch(ctx, "changed", types.MergePatchType, []byte(`{"data":{"token":"`+base64.StdEncoding.EncodeToString([]byte(good))+`"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	l.unauthorized("a token that the secret does not hold any more", changed)
	if err := secrets.Delete(ctx, "good", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.unauthorized("a secret that has gone", good)
	last := hold("last", nil)
	if err := l.admin.CoreV1().ServiceAccounts("default").Delete(ctx, "robot", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	l.unauthorized("an account that has gone", last)
}

func TestTokenRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	l := newTokenLab(t)
	bound := func(kind, name string, uid types.UID) authenticationv1.TokenRequestSpec {
		return authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}}
	}
	l.s.Store.Put(pod("others", ""))
	for _, tc := range []struct {
		name string
		spec authenticationv1.TokenRequestSpec
		want func(error) bool
	}{
		{"too short", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](599)}, apierrors.IsInvalid},
		{"too long", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](1<<32 + 1)}, apierrors.IsInvalid},
		{"no such pod", bound("Pod", "nobody", ""), apierrors.IsNotFound},
		{"another pod of the name", bound("Pod", "mine", "y"), apierrors.IsConflict},
		{"another kind", bound("ConfigMap", "c", ""), apierrors.IsBadRequest},
		{"a pod of another account", bound("Pod", "others", ""), apierrors.IsBadRequest},
	} {
		if tr, err := l.request(tc.spec); !tc.want(err) {
			t.Errorf("%s: %v, %v", tc.name, tr, err)
		}
	}
	if _, err := l.admin.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "nobody", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("no such account: %v", err)
	}
	if tr, err := l.admin.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{DryRun: []string{"All"}}); err != nil || tr.Status.Token != "" {
		t.Errorf("a dry run gave a token: %v, %v", tr, err)
	}
}

// TestTokensWithKubectl makes a token as people do, and reads what others need to check it.
func TestTokensWithKubectl(t *testing.T) {
	t.Parallel()
	l := newTokenLab(t)
	k := newKubectl(t, l.s)
	token := strings.TrimSpace(k.ok("", "create", "token", "robot", "--duration=1h", "--audience=vault"))
	if st := l.review(token, "vault"); !st.Authenticated {
		t.Errorf("review: %+v", st)
	}
	has(t, k.fails("", "create", "token", "robot", "--duration=1m"), "may not specify a duration less than 10 minutes")
	has(t, k.fails("", "create", "token", "nobody"), `serviceaccounts "nobody" not found`)
	has(t, k.ok("", "auth", "whoami", "--as=system:serviceaccount:default:robot", "--as-uid=7"), "system:serviceaccounts:default", "7")
	has(t, k.ok("", "get", "--raw", "/.well-known/openid-configuration"), `"issuer": "https://kubernetes.default.svc.cluster.local"`, "/openid/v1/jwks")
	var keys struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(k.ok("", "get", "--raw", "/openid/v1/jwks")), &keys); err != nil || len(keys.Keys) != 1 || keys.Keys[0]["kty"] != "EC" {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestFinalizeNamespace takes a namespace's finalizer away by its subresource, and by nothing else.
func TestFinalizeNamespace(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := typed(t, s, false).CoreV1().Namespaces()
	ns, err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
	if err != nil || len(ns.Spec.Finalizers) != 1 {
		t.Fatal(ns, err)
	}
	ns.Spec.Finalizers = append(ns.Spec.Finalizers, "example.com/mine")
	got, err := c.Update(t.Context(), ns, metav1.UpdateOptions{})
	if err != nil || len(got.Spec.Finalizers) != 1 {
		t.Fatalf("an update changed the finalizers: %v, %v", got, err)
	}
	ns.ResourceVersion = got.ResourceVersion
	ns.Status.Phase = corev1.NamespaceTerminating
	got, err = c.Finalize(t.Context(), ns, metav1.UpdateOptions{})
	if err != nil || len(got.Spec.Finalizers) != 2 || got.Status.Phase != corev1.NamespaceActive {
		t.Fatalf("finalize: %v, %v", got, err)
	}
	got.Spec.Finalizers[1] = "no domain"
	if _, err := c.Finalize(t.Context(), got, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a wrong finalizer: %v", err)
	}
}

// TestResizePod changes what a pod's containers may use, and nothing else.
func TestResizePod(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	k := newKubectl(t, s)
	k.ok(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i:1","resources":{"requests":{"cpu":"100m"}}}]}}`, "create", "-f", "-")
	resize := func(patch string) []string { return []string{"patch", "pod", "p", "--subresource=resize", "-p", patch} }
	has(t, k.fails("", "patch", "pod", "p", "-p", `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"200m"}}}]}}`), "pod updates may not change fields other than")
	k.ok("", resize(`{"spec":{"containers":[{"name":"c","image":"i:2","resources":{"requests":{"cpu":"200m"}}}],"priorityClassName":"x"},"metadata":{"labels":{"a":"b"}}}`)...)
	has(t, k.ok("", "get", "pod", "p", "-o", "jsonpath={.spec.containers[0].resources.requests.cpu} {.spec.containers[0].image} {.metadata.generation} {.spec.priorityClassName}{.metadata.labels}"), "200m i:1 2 ")
	has(t, k.fails("", resize(`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"200m"},"limits":{"cpu":"200m","memory":"1Mi"}}}]}}`)...), "Pod QOS Class may not change as a result of resizing")
	has(t, k.fails("", resize(`{"spec":{"containers":[{"name":"d","image":"i"}]}}`)...), "")
}
