package controller

import (
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
)

// ClaimAdmission refuses a new claim (Forbidden) that the LimitRanges of its namespace do not allow.
type ClaimAdmission func(v View, c *corev1.PersistentVolumeClaim) error

// claimGate is what stands between a controller and a claim that it wants to make, as podGate does for pods. One run uses one.
type claimGate struct {
	v      View
	admit  ClaimAdmission
	quotas []quotaUse
}

func newClaimGate(v View, admit ClaimAdmission, namespace string, now time.Time) *claimGate {
	g := &claimGate{v: v, admit: admit}
	for o := range v.List("resourcequotas", namespace) {
		q := o.(*corev1.ResourceQuota)
		g.quotas = append(g.quotas, quotaUse{q, usedOf(v, q, now)})
	}
	return g
}

// take refuses a new claim (Forbidden) or counts it.
func (g *claimGate) take(c *corev1.PersistentVolumeClaim) error {
	if g.admit != nil {
		if err := g.admit(g.v, c); err != nil {
			return err
		}
	}
	takes := make([]corev1.ResourceList, len(g.quotas))
	for i, had := range g.quotas {
		if !claimInScopes(had.q, c) {
			continue
		}
		take, over := had.room(func(name string) kresource.Quantity { return claimTakes(name, c) })
		if over != "" {
			return apierrors.NewForbidden(corev1.Resource("persistentvolumeclaims"), c.Name, errors.New(over))
		}
		takes[i] = take
	}
	for i, take := range takes {
		g.quotas[i].add(take)
	}
	return nil
}

// claimTakes is how much of a quota's limit one claim takes; zero of what is not about claims.
func claimTakes(name string, c *corev1.PersistentVolumeClaim) kresource.Quantity {
	if class, what, ofClass := strings.Cut(name, ".storageclass.storage.k8s.io/"); ofClass {
		if c.Spec.StorageClassName == nil || *c.Spec.StorageClassName != class {
			return kresource.Quantity{}
		}
		name = what
	}
	switch name {
	case "persistentvolumeclaims", "count/persistentvolumeclaims":
		return *kresource.NewQuantity(1, kresource.DecimalSI)
	case "requests.storage":
		return *c.Spec.Resources.Requests.Storage()
	}
	return kresource.Quantity{}
}
