package controller

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// TokenSigner signs what a token claims, as a function of its argument: a forecast and the commit, and two servers, get the same token.
type TokenSigner interface {
	Sign(claims any) (string, error)
}

// tokenSecrets fills the Secrets of type kubernetes.io/service-account-token with a token of the account that they name, and removes those whose
// account is gone. Its keys are such Secrets; the account's list of them loses one that is removed.
type tokenSecrets struct {
	signer TokenSigner
	rootCA string
}

func (tokenSecrets) Name() string      { return "serviceaccount-token" }
func (tokenSecrets) Watches() []string { return []string{"secrets", "serviceaccounts"} }

func (tokenSecrets) Keys(v View, ch Change, emit func(object.Key)) {
	if ch.Key.Resource == "secrets" {
		for _, o := range []object.Object{ch.New, ch.Old} {
			if s, ok := o.(*corev1.Secret); ok && s.Type == corev1.SecretTypeServiceAccountToken {
				emit(ch.Key)
				return
			}
		}
		return
	}
	if ch.New != nil && ch.Old != nil && ch.New.GetUID() == ch.Old.GetUID() {
		return
	}
	for o := range v.List("secrets", ch.Key.Namespace) {
		if s := o.(*corev1.Secret); s.Type == corev1.SecretTypeServiceAccountToken && s.Annotations[corev1.ServiceAccountNameKey] == ch.Key.Name {
			emit(object.KeyOf(s))
		}
	}
}

func (c tokenSecrets) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return unlist(v, key), nil
	}
	s := o.(*corev1.Secret)
	if s.Type != corev1.SecretTypeServiceAccountToken || s.DeletionTimestamp != nil || c.signer == nil {
		return Result{}, nil
	}
	name, uid := s.Annotations[corev1.ServiceAccountNameKey], s.Annotations[corev1.ServiceAccountUIDKey]
	account, ok := v.Get(object.Key{Resource: "serviceaccounts", Namespace: key.Namespace, Name: name})
	if !ok || uid != "" && uid != string(account.GetUID()) {
		if staysWithoutOwner(s) {
			// Git declares it, so git takes it away. The token in it is good for nothing without its account.
			return Result{Events: []Event{{Regarding: s, Type: corev1.EventTypeWarning, Reason: "NoServiceAccount", Component: "serviceaccount-token-controller",
				Message: fmt.Sprintf("there is no service account %s of this secret: Kubernetes would remove the secret; take it out of the repository, or add the account", name)}}}, nil
		}
		return Result{Delete: []Deletion{{Key: key}}}, nil
	}
	next := object.Copy(s)
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	if c.rootCA != "" {
		next.Data[corev1.ServiceAccountRootCAKey] = []byte(c.rootCA)
	}
	if len(next.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		next.Data[corev1.ServiceAccountNamespaceKey] = []byte(key.Namespace)
	}
	if len(next.Data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := c.signer.Sign(object.LegacyToken{Issuer: object.LegacyTokenIssuer, Namespace: key.Namespace, Secret: key.Name, SecretUID: string(s.UID),
			Account: name, AccountUID: string(account.GetUID()), Subject: "system:serviceaccount:" + key.Namespace + ":" + name})
		if err != nil {
			return Result{}, fmt.Errorf("sign the token of %s: %w", key, err)
		}
		next.Data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	if uid == "" {
		next.Annotations[corev1.ServiceAccountUIDKey] = string(account.GetUID())
	}
	return Result{Put: []object.Object{next}}, nil
}

// unlist takes a Secret that is gone out of the lists of its namespace's accounts.
func unlist(v View, secret object.Key) Result {
	var res Result
	for o := range v.List("serviceaccounts", secret.Namespace) {
		lists := func(r corev1.ObjectReference) bool { return r.Name == secret.Name }
		if account := o.(*corev1.ServiceAccount); slices.ContainsFunc(account.Secrets, lists) {
			account = object.Copy(account)
			account.Secrets = slices.DeleteFunc(account.Secrets, lists)
			res.Put = append(res.Put, account)
		}
	}
	return res
}
