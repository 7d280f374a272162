package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// DefaultAccount gives a new pod that names no ServiceAccount that of its namespace, and one that names no secrets for pulling images those of its
// account, as Kubernetes' admission plugin ServiceAccount does; it refuses a pod whose account is not there (Forbidden). The account default is never
// missing: each namespace gets it in the transaction that makes the namespace, after this. It changes p, and nothing that p may share. Tokens come
// with the part that brings rights.
func DefaultAccount(v View, p *corev1.Pod) error {
	oneAccount(&p.Spec)
	if p.Spec.ServiceAccountName == "" {
		p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount = defaultAccount, defaultAccount
	}
	o, ok := v.Get(object.Key{Resource: "serviceaccounts", Namespace: p.Namespace, Name: p.Spec.ServiceAccountName})
	if !ok && p.Spec.ServiceAccountName != defaultAccount {
		return apierrors.NewForbidden(corev1.Resource("pods"), p.Name, fmt.Errorf("error looking up service account %s/%s: %w", p.Namespace, p.Spec.ServiceAccountName,
			apierrors.NewNotFound(corev1.Resource("serviceaccount"), p.Spec.ServiceAccountName)))
	}
	if account, ok := o.(*corev1.ServiceAccount); ok && len(p.Spec.ImagePullSecrets) == 0 && len(account.ImagePullSecrets) > 0 {
		p.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference{}, account.ImagePullSecrets...)
	}
	return nil
}

// defaultAccount is the ServiceAccount of pods that name none.
const defaultAccount = "default"
