package api

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/authz"
	"reconcile/object"
)

// Tokens signs and checks the tokens of service accounts; pki does.
type Tokens interface {
	// Sign makes a token of claims; Verify reads those of a token that the cluster has signed.
	Sign(claims any) (string, error)
	Verify(token string, claims any) error
	// KeySet is the public key as a JSON Web Key Set.
	KeySet() ([]byte, error)
}

// issuer is who tokens say has made them, and the audience of those that are for the API itself, as in Kubernetes.
const issuer = "https://kubernetes.default.svc.cluster.local"

// The bounds of what a token may be asked to live, as in Kubernetes, and how wrong clocks may be.
const (
	tokenDefault = int64(time.Hour / time.Second)
	tokenLeast   = int64(10 * time.Minute / time.Second)
	tokenMost    = int64(1) << 32
	tokenLeeway  = time.Minute
	// deletedLeeway is for how long after its deletion was asked for an account or an object may still be used by a token.
	deletedLeeway = time.Minute
)

// The groups of a service account, and the prefix of its user.
const (
	accountPrefix = "system:serviceaccount:"
	accountGroup  = "system:serviceaccounts"
)

// claims are what a service account's token says (RFC 7519, and Kubernetes' own under one name).
type claims struct {
	Issuer    string     `json:"iss"`
	Subject   string     `json:"sub"`
	Audience  []string   `json:"aud"`
	Expiry    int64      `json:"exp"`
	NotBefore int64      `json:"nbf"`
	IssuedAt  int64      `json:"iat"`
	ID        string     `json:"jti"`
	Bound     boundClaim `json:"kubernetes.io"`
}

type boundClaim struct {
	Namespace string    `json:"namespace"`
	Account   reference `json:"serviceaccount"`
	// At most one of Pod and Secret is set; Node is the pod's, or stands alone.
	Pod    *reference `json:"pod,omitempty"`
	Secret *reference `json:"secret,omitempty"`
	Node   *reference `json:"node,omitempty"`
}

type reference struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

var tokenRequestKind = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// requestToken serves serviceaccounts/token.
func (s *Server) requestToken(w http.ResponseWriter, r *http.Request, t target) error {
	if s.cfg.Tokens == nil {
		return notServed()
	}
	b, media, err := readBody(r)
	if err != nil {
		return err
	}
	var body authenticationv1.TokenRequest
	if err := decodePlain(b, media, &body); err != nil {
		return err
	}
	dry, err := dryRun(t.query["dryRun"])
	if err != nil {
		return err
	}
	account, err := s.live(r.Context(), t, "")
	if err != nil {
		return err
	}
	if err := completeTokenRequest(&body, account); err != nil {
		return err
	}
	now := s.cfg.Now()
	c := claims{
		Issuer: issuer, Subject: accountPrefix + account.GetNamespace() + ":" + account.GetName(), Audience: body.Spec.Audiences,
		Expiry: now.Unix() + *body.Spec.ExpirationSeconds, NotBefore: now.Unix(), IssuedAt: now.Unix(), ID: uuid.NewString(),
		Bound: boundClaim{Namespace: account.GetNamespace(), Account: reference{account.GetName(), string(account.GetUID())}},
	}
	if err := s.bindToken(&c.Bound, body.Spec.BoundObjectRef); err != nil {
		return err
	}
	body.SetGroupVersionKind(tokenRequestKind)
	body.CreationTimestamp = metav1.NewTime(now.Truncate(time.Second))
	body.Status = authenticationv1.TokenRequestStatus{ExpirationTimestamp: metav1.NewTime(time.Unix(c.Expiry, 0))}
	if !dry {
		if body.Status.Token, err = s.cfg.Tokens.Sign(c); err != nil {
			return err
		}
	}
	s.sendPlain(w, r, http.StatusCreated, &body)
	return nil
}

// completeTokenRequest fills in what a request leaves out and refuses what is wrong with it.
func completeTokenRequest(body *authenticationv1.TokenRequest, account object.Object) error {
	refuse := func(path *field.Path, value any, why string) error {
		return apierrors.NewInvalid(tokenRequestKind.GroupKind(), account.GetName(), field.ErrorList{field.Invalid(path, value, why)})
	}
	meta := field.NewPath("metadata")
	switch {
	case body.Name != "" && body.Name != account.GetName():
		return refuse(meta.Child("name"), body.Name, "must match the service account name if specified")
	case body.Namespace != "" && body.Namespace != account.GetNamespace():
		return refuse(meta.Child("namespace"), body.Namespace, "must match the service account namespace if specified")
	case body.UID != "" && body.UID != account.GetUID():
		return apierrors.NewConflict(schema.GroupResource{Group: tokenRequestKind.Group, Resource: tokenRequestKind.Kind}, account.GetName(),
			fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", body.UID, account.GetUID()))
	}
	body.Name, body.Namespace, body.UID = account.GetName(), account.GetNamespace(), account.GetUID()
	if len(body.Spec.Audiences) == 0 {
		body.Spec.Audiences = []string{issuer}
	}
	if body.Spec.ExpirationSeconds == nil {
		seconds := tokenDefault
		body.Spec.ExpirationSeconds = &seconds
	}
	path := field.NewPath("spec", "expirationSeconds")
	switch n := *body.Spec.ExpirationSeconds; {
	case n < tokenLeast:
		return refuse(path, n, "may not specify a duration less than 10 minutes")
	case n > tokenMost:
		return refuse(path, n, "may not specify a duration larger than 2^32 seconds")
	}
	return nil
}

// bindToken writes into a token's claims the object with which it is to end.
func (s *Server) bindToken(c *boundClaim, ref *authenticationv1.BoundObjectReference) error {
	if ref == nil {
		return nil
	}
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	resource, ok := map[string]string{"Pod": "pods", "Secret": "secrets", "Node": "nodes"}[gvk.Kind]
	if !ok || gvk.Group != "" {
		return badRequest("cannot bind token to object of type %s", gvk)
	}
	key := object.Key{Resource: resource, Namespace: c.Namespace, Name: ref.Name}
	if resource == "nodes" {
		key.Namespace = ""
	}
	view := s.cfg.Store.View()
	o, ok := view.Get(key)
	if !ok {
		return apierrors.NewNotFound(corev1.Resource(resource), ref.Name)
	}
	if ref.UID != "" && ref.UID != o.GetUID() {
		return apierrors.NewConflict(corev1.Resource(gvk.Kind), ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	is := &reference{o.GetName(), string(o.GetUID())}
	switch o := o.(type) {
	case *corev1.Pod:
		if o.Spec.ServiceAccountName != c.Account.Name {
			return badRequest("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", c.Account.Name)
		}
		c.Pod = is
		if o.Spec.NodeName == "" {
			break
		}
		c.Node = &reference{Name: o.Spec.NodeName}
		if n, ok := view.Get(object.Key{Resource: "nodes", Name: o.Spec.NodeName}); ok {
			c.Node.UID = string(n.GetUID())
		}
	case *corev1.Secret:
		c.Secret = is
	default:
		c.Node = is
	}
	return nil
}

// errTokenNotGood is what is told of any token that is not good: who sends one is not known.
var errTokenNotGood = errors.New("invalid bearer token")

// tokenUser tells whose a token is and for which of the wanted audiences it is good.
func (s *Server) tokenUser(ctx context.Context, token string, wanted []string) (authz.User, []string, error) {
	var c claims
	if s.cfg.Tokens == nil || s.cfg.Tokens.Verify(token, &c) != nil {
		return authz.User{}, nil, errTokenNotGood
	}
	now := s.cfg.Now()
	if c.Issuer == object.LegacyTokenIssuer {
		return s.secretUser(ctx, token, wanted, now)
	}
	var audiences []string
	for _, a := range wanted {
		if slices.Contains(c.Audience, a) {
			audiences = append(audiences, a)
		}
	}
	account := accountPrefix + c.Bound.Namespace + ":" + c.Bound.Account.Name
	switch {
	case c.Issuer != issuer || c.Subject != account || len(audiences) == 0:
		return authz.User{}, nil, errTokenNotGood
	case now.Add(-tokenLeeway).After(time.Unix(c.Expiry, 0)):
		return authz.User{}, nil, fmt.Errorf("%w: service account token has expired", errTokenNotGood)
	case now.Add(tokenLeeway).Before(time.Unix(c.NotBefore, 0)):
		return authz.User{}, nil, fmt.Errorf("%w: service account token is not valid yet", errTokenNotGood)
	}
	u := authz.User{Name: account, UID: c.Bound.Account.UID, Groups: accountGroups(c.Bound.Namespace),
		Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=" + c.ID}}}
	for _, bound := range []struct {
		resource, extra string
		ref             *reference
	}{{"serviceaccounts", "", &c.Bound.Account}, {"pods", "pod", c.Bound.Pod}, {"secrets", "", c.Bound.Secret}, {"nodes", "node", c.Bound.Node}} {
		if bound.ref == nil {
			continue
		}
		key := object.Key{Resource: bound.resource, Namespace: c.Bound.Namespace, Name: bound.ref.Name}
		if bound.resource == "nodes" {
			key.Namespace = ""
		}
		// A pod's node only tells where the pod is: the token ends with the pod.
		if tells := bound.resource == "nodes" && c.Bound.Pod != nil; !tells && !s.stillThere(ctx, key, bound.ref.UID, now) {
			return authz.User{}, nil, fmt.Errorf("%w: %s %q is not there any more", errTokenNotGood, strings.TrimSuffix(bound.resource, "s"), bound.ref.Name)
		}
		if bound.extra != "" {
			u.Extra["authentication.kubernetes.io/"+bound.extra+"-name"] = []string{bound.ref.Name}
			if bound.ref.UID != "" {
				u.Extra["authentication.kubernetes.io/"+bound.extra+"-uid"] = []string{bound.ref.UID}
			}
		}
	}
	return u, audiences, nil
}

// secretUser tells whose the token of a Secret is. It is good while the Secret holds it and the account is there, and for the API only.
func (s *Server) secretUser(ctx context.Context, token string, wanted []string, now time.Time) (authz.User, []string, error) {
	var c object.LegacyToken
	if err := s.cfg.Tokens.Verify(token, &c); err != nil {
		return authz.User{}, nil, errTokenNotGood
	}
	account := accountPrefix + c.Namespace + ":" + c.Account
	if c.Subject != account || !slices.Contains(wanted, issuer) {
		return authz.User{}, nil, errTokenNotGood
	}
	key := object.Key{Resource: "secrets", Namespace: c.Namespace, Name: c.Secret}
	holds := func(o object.Object) bool {
		secret, ok := o.(*corev1.Secret)
		return ok && subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) == 1 && lasts(o, now)
	}
	switch {
	case !s.finds(ctx, key, holds):
		return authz.User{}, nil, fmt.Errorf("%w: the secret %q does not hold the token any more", errTokenNotGood, c.Secret)
	case !s.stillThere(ctx, object.Key{Resource: "serviceaccounts", Namespace: c.Namespace, Name: c.Account}, c.AccountUID, now):
		return authz.User{}, nil, fmt.Errorf("%w: serviceaccount %q is not there any more", errTokenNotGood, c.Account)
	}
	return authz.User{Name: account, UID: c.AccountUID, Groups: accountGroups(c.Namespace)}, []string{issuer}, nil
}

// accountGroups are the groups of the service accounts of a namespace.
func accountGroups(namespace string) []string {
	return []string{accountGroup, accountGroup + ":" + namespace, authz.GroupAuthenticated}
}

// stillThere tells whether an object is the one that a token means, and is not being deleted.
func (s *Server) stillThere(ctx context.Context, key object.Key, uid string, now time.Time) bool {
	return s.finds(ctx, key, func(o object.Object) bool { return string(o.GetUID()) == uid && lasts(o, now) })
}

// finds tells whether there is an object which is as it should be. A server that is behind asks for what is newest before it says no.
func (s *Server) finds(ctx context.Context, key object.Key, good func(object.Object) bool) bool {
	if o, ok := s.cfg.Store.View().Get(key); ok && good(o) {
		return true
	}
	view, err := s.fresh(ctx, "")
	if err != nil {
		return false
	}
	o, ok := view.Get(key)
	return ok && good(o)
}

// lasts tells whether an object may still be used by a token.
func lasts(o object.Object, now time.Time) bool {
	at := o.GetDeletionTimestamp()
	return at == nil || now.Before(at.Add(deletedLeeway))
}

// reviewToken judges a bearer token for others.
func (s *Server) reviewToken(w http.ResponseWriter, r *http.Request, t target) error {
	var body authenticationv1.TokenReview
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	if body.Spec.Token == "" {
		return badRequest("token is required for TokenReview in authentication")
	}
	wanted := body.Spec.Audiences
	if len(wanted) == 0 {
		wanted = []string{issuer}
	}
	u, audiences, err := s.tokenUser(r.Context(), body.Spec.Token, wanted)
	if err != nil {
		body.Status = authenticationv1.TokenReviewStatus{Error: err.Error()}
		return s.answerAction(w, r, &body)
	}
	body.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: userInfo(u), Audiences: audiences}
	return s.answerAction(w, r, &body)
}

// userInfo is a user as reviews tell it.
func userInfo(u authz.User) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for k, v := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// openID serves what others need to check tokens: the issuer's configuration (OpenID Connect Discovery 1.0) and its keys.
func (s *Server) openID(w http.ResponseWriter, r *http.Request, path string) error {
	if s.cfg.Tokens == nil {
		http.NotFound(w, r)
		return nil
	}
	if path == pathKeys {
		b, err := s.cfg.Tokens.KeySet()
		if err != nil {
			return err
		}
		send(w, r, http.StatusOK, "application/jwk-set+json", b)
		return nil
	}
	return sendJSON(w, r, map[string]any{
		"issuer": issuer, "jwks_uri": "https://" + s.cfg.ServerAddress + pathKeys, "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	})
}

// The paths of OpenID Connect.
const (
	pathOpenID = "/.well-known/openid-configuration"
	pathKeys   = "/openid/v1/jwks"
)
