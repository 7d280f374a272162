package controller

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"reconcile/object"
	"reconcile/scheduler"
)

// retryRefused is how long an owner waits before it tries again to make a pod that was refused.
const retryRefused = time.Minute

// PodAdmission completes a new pod by what is in v and refuses it (Forbidden), as the API server's admission does before it looks at quotas: the
// defaults, its ServiceAccount, its RuntimeClass, and what the LimitRanges of its namespace give and bound. It changes p and nothing that p shares, and what it did to
// a pod once it does not do again.
type PodAdmission func(v View, p *corev1.Pod) error

// podGate is what stands between a controller and a pod that it wants to make: the rest of the admission, and what the namespace's quotas have
// left. One run uses one; the pods of a namespace without quotas and LimitRanges cost two looks.
type podGate struct {
	v      View
	admit  PodAdmission
	quotas []quotaUse
	// bounded tells that the namespace has LimitRanges.
	bounded bool
}

func newPodGate(v View, admit PodAdmission, namespace string, now time.Time) *podGate {
	g := &podGate{v: v, admit: admit}
	for range v.List("limitranges", namespace) {
		g.bounded = true
		break
	}
	for o := range v.List("resourcequotas", namespace) {
		q := o.(*corev1.ResourceQuota)
		g.quotas = append(g.quotas, quotaUse{q, usedOf(v, q, now)})
	}
	return g
}

// take completes a new pod, and refuses it (Forbidden) or counts it.
func (g *podGate) take(p *corev1.Pod) error {
	if err := g.complete(p); err != nil {
		return err
	}
	if len(g.quotas) == 0 {
		return nil
	}
	seen := *p
	seen.Status.QOSClass = corev1.PodQOSBurstable
	if bestEffort(&p.Spec) {
		seen.Status.QOSClass = corev1.PodQOSBestEffort
	}
	var takes []corev1.ResourceList
	for _, had := range g.quotas {
		if !inScopes(had.q, &seen) {
			takes = append(takes, nil)
			continue
		}
		if left := unspecified(had.q, p); left != "" {
			return podForbidden(p, fmt.Errorf("failed quota: %s: must specify %s", had.q.Name, left))
		}
		take, over := had.room(func(name string) kresource.Quantity { return podTakes(name, p) })
		if over != "" {
			return podForbidden(p, errors.New(over))
		}
		takes = append(takes, take)
	}
	for i, take := range takes {
		g.quotas[i].add(take)
	}
	return nil
}

// add counts what was taken.
func (u quotaUse) add(take corev1.ResourceList) {
	for name, n := range take {
		sum := u.used[name].DeepCopy()
		sum.Add(n)
		u.used[name] = sum
	}
}

// complete gives the pod all that a quota may look at. Where nothing looks and nothing can be refused Settle's admission does the same later.
func (g *podGate) complete(p *corev1.Pod) error {
	looked := g.bounded || len(g.quotas) > 0
	if looked || p.Spec.PriorityClassName != "" {
		if err := scheduler.Prioritize(g.v, p); err != nil {
			return podForbidden(p, err)
		}
	}
	if g.admit != nil && (looked || p.Spec.RuntimeClassName != nil || !alwaysThere(p.Spec.ServiceAccountName)) {
		return g.admit(g.v, p)
	}
	return nil
}

// alwaysThere tells of the ServiceAccount that no namespace is without.
func alwaysThere(account string) bool { return account == "" || account == "default" }

// emitForAccount emits those of a namespace's owners whose pods run as a ServiceAccount that has just come: they may have been refused until now.
func emitForAccount(v View, ch Change, resource string, emit func(object.Key)) {
	if ch.Old != nil || ch.New == nil || alwaysThere(ch.Key.Name) {
		return
	}
	for o := range v.List(resource, ch.Key.Namespace) {
		if t := object.PodTemplate(o); t != nil && t.Spec.ServiceAccountName == ch.Key.Name {
			emit(object.KeyOf(o))
		}
	}
}

func podForbidden(p *corev1.Pod, why error) error {
	return apierrors.NewForbidden(corev1.Resource("pods"), p.Name, why)
}

// room is what an object takes of a quota, or what there is too little of, in Kubernetes' words. takes is how much it takes of a limit.
func (u quotaUse) room(takes func(name string) kresource.Quantity) (take corev1.ResourceList, over string) {
	take = corev1.ResourceList{}
	requested, used, limited := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for name, hard := range u.q.Spec.Hard {
		n := takes(string(name))
		if n.IsZero() {
			continue
		}
		take[name] = n
		sum := u.used[name].DeepCopy()
		sum.Add(n)
		if sum.Cmp(hard) > 0 {
			requested[name], used[name], limited[name] = n, u.used[name], hard
		}
	}
	if len(requested) == 0 {
		return take, ""
	}
	return nil, fmt.Sprintf("exceeded quota: %s, requested: %s, used: %s, limited: %s", u.q.Name, listed(requested), listed(used), listed(limited))
}

// podTakes is how much of a quota's limit one pod takes; zero of what is not about pods.
func podTakes(name string, p *corev1.Pod) kresource.Quantity {
	switch {
	case name == "pods" || name == "count/pods":
		return *kresource.NewQuantity(1, kresource.DecimalSI)
	case strings.HasPrefix(name, "limits."):
		return resource.PodLimits(p, resource.PodResourcesOptions{})[corev1.ResourceName(strings.TrimPrefix(name, "limits."))]
	}
	return resource.PodRequests(p, resource.PodResourcesOptions{})[corev1.ResourceName(strings.TrimPrefix(name, "requests."))]
}

// bestEffort tells whether a pod asks for no processor and no memory at all.
func bestEffort(s *corev1.PodSpec) bool {
	asks := func(r *corev1.ResourceRequirements) bool {
		for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
			if !list.Cpu().IsZero() || !list.Memory().IsZero() {
				return true
			}
		}
		return false
	}
	if s.Resources != nil && asks(s.Resources) {
		return false
	}
	for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range list {
			if asks(&list[i].Resources) {
				return false
			}
		}
	}
	return true
}
