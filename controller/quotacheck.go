package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// QuotaCheck is what the quotas of a namespace counted before a write. It is nil where there are none.
type QuotaCheck struct {
	o    object.Object
	now  time.Time
	used []quotaUse
}

// quotaUse is one quota and what was used of what it limits.
type quotaUse struct {
	q    *corev1.ResourceQuota
	used corev1.ResourceList
}

// BeforeWrite counts, for the quotas of its namespace, what is used before o is written in place of old; old is nil for a creation. Writes that
// can take nothing, as those of a status, are not counted. A namespace without quotas costs one look.
func BeforeWrite(v View, o, old object.Object, now time.Time) *QuotaCheck {
	if o.GetNamespace() == "" || old != nil && !takes(o, old) {
		return nil
	}
	resource := object.KeyOf(o).Resource
	var c *QuotaCheck
	for q := range v.List("resourcequotas", o.GetNamespace()) {
		q := q.(*corev1.ResourceQuota)
		if !limits(q, resource) {
			continue
		}
		if c == nil {
			c = &QuotaCheck{o: o, now: now}
		}
		c.used = append(c.used, quotaUse{q, usedOf(v, q, now)})
	}
	return c
}

// limits tells whether a quota may count objects of a resource.
func limits(q *corev1.ResourceQuota, resource string) bool {
	switch resource {
	case "pods", "services", "persistentvolumeclaims":
		return true
	}
	for name := range q.Spec.Hard {
		if what, _, _ := strings.Cut(strings.TrimPrefix(string(name), "count/"), "."); what == resource {
			return true
		}
	}
	return false
}

// takes tells whether an update can use more than what it replaces.
func takes(o, old object.Object) bool {
	switch o := o.(type) {
	case *corev1.Pod:
		return o.Generation != old.GetGeneration() || (o.Spec.ActiveDeadlineSeconds == nil) != (old.(*corev1.Pod).Spec.ActiveDeadlineSeconds == nil)
	case *corev1.Service, *corev1.PersistentVolumeClaim:
		return true
	}
	return false
}

// After compares with the quotas what is used now that the object is in v, and refuses the write if it takes what is not there (Forbidden, in
// Kubernetes' words), or if a pod leaves out what a quota limits. What was over its limit before, and does not grow, is let be.
func (c *QuotaCheck) After(v View) error {
	if c == nil {
		return nil
	}
	for _, had := range c.used {
		if p, ok := c.o.(*corev1.Pod); ok && inScopes(had.q, p) {
			if left := unspecified(had.q, p); left != "" {
				return c.forbidden(fmt.Errorf("failed quota: %s: must specify %s", had.q.Name, left))
			}
		}
		now := usedOf(v, had.q, c.now)
		requested, used, limited := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
		for name, hard := range had.q.Spec.Hard {
			n, before := now[name], had.used[name]
			if n.Cmp(before) <= 0 || n.Cmp(hard) <= 0 {
				continue
			}
			more := n.DeepCopy()
			more.Sub(before)
			requested[name], used[name], limited[name] = more, before, hard
		}
		if len(requested) > 0 {
			return c.forbidden(fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", had.q.Name, listed(requested), listed(used), listed(limited)))
		}
	}
	return nil
}

func (c *QuotaCheck) forbidden(why error) error {
	k, err := object.KindOfObject(c.o)
	if err != nil {
		return err
	}
	return apierrors.NewForbidden(k.GroupResource(), c.o.GetName(), why)
}

// usedOf counts what is used of all that a quota limits and that we can count.
func usedOf(v View, q *corev1.ResourceQuota, now time.Time) corev1.ResourceList {
	c := counting{v: v, q: q, now: now}
	return c.all()
}

func (c *counting) all() corev1.ResourceList {
	used := corev1.ResourceList{}
	for name := range c.q.Spec.Hard {
		if n, known := c.countOf(string(name)); known {
			used[name] = n
		}
	}
	return used
}

// mustSpecify are the limits of a quota that every container of a pod must name.
var mustSpecify = map[corev1.ResourceName]func(corev1.ResourceRequirements) corev1.ResourceList{
	corev1.ResourceCPU: requestsOf, corev1.ResourceMemory: requestsOf, corev1.ResourceRequestsCPU: requestsOf, corev1.ResourceRequestsMemory: requestsOf,
	corev1.ResourceLimitsCPU: limitsOf, corev1.ResourceLimitsMemory: limitsOf,
}

func requestsOf(r corev1.ResourceRequirements) corev1.ResourceList { return r.Requests }
func limitsOf(r corev1.ResourceRequirements) corev1.ResourceList   { return r.Limits }

// unspecified names what a quota limits and containers of a pod leave out: "limits.cpu for: a,b; requests.memory for: b".
func unspecified(q *corev1.ResourceQuota, p *corev1.Pod) string {
	if r := p.Spec.Resources; r != nil && len(r.Requests)+len(r.Limits) > 0 {
		return ""
	}
	var out []string
	for name := range q.Spec.Hard {
		of, ok := mustSpecify[name]
		if !ok {
			continue
		}
		what := corev1.ResourceName(strings.TrimPrefix(strings.TrimPrefix(string(name), "requests."), "limits."))
		var names []string
		for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
			if _, ok := of(c.Resources)[what]; !ok {
				names = append(names, c.Name)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			out = append(out, string(name)+" for: "+strings.Join(names, ","))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// listed is a list of quantities as Kubernetes' errors write it: "pods=1,services=2".
func listed(list corev1.ResourceList) string {
	var out []string
	for name, q := range list {
		out = append(out, string(name)+"="+(&q).String())
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
