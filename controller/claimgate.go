package controller

import (
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/storage/volume"
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
		if volume.GetPersistentVolumeClaimClass(c) != class {
			return kresource.Quantity{}
		}
		name = what
	}
	switch name {
	case "persistentvolumeclaims", "count/persistentvolumeclaims":
		return *kresource.NewQuantity(1, kresource.DecimalSI)
	case "requests.storage":
		return claimStorage(c)
	}
	return kresource.Quantity{}
}

// claimStorage is how much storage a claim counts with, in whole bytes: what it asks for, or what its volume may have been given already if that is more, as
// when growth that failed was taken back. It is the caller's own.
func claimStorage(c *corev1.PersistentVolumeClaim) kresource.Quantity {
	asked, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return kresource.Quantity{}
	}
	if has, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && has.Cmp(asked) > 0 {
		asked = has
	}
	asked = asked.DeepCopy()
	asked.RoundUp(0)
	return asked
}
