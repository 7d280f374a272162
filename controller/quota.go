package controller

import (
	"iter"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/storage/volume"

	"reconcile/object"
)

// quotas keeps the status of ResourceQuotas: what is used of what they limit. Its key is a quota, its input
// everything in the quota's namespace that may be counted; a namespace without quotas costs one look a change.
type quotas struct{}

// quotaResync is how often a quota is looked at though nothing of its namespace changed.
const quotaResync = 5 * time.Minute

func (quotas) Name() string { return "resourcequota" }

func (quotas) Watches() []string {
	var out []string
	for _, k := range object.Kinds() {
		if k.Namespaced && k.Resource != "events" {
			out = append(out, k.Resource)
		}
	}
	return out
}

func (quotas) Keys(v View, ch Change, emit func(object.Key)) {
	// A status that somebody else has written stays until the next look, as in Kubernetes.
	if q, ok := ch.New.(*corev1.ResourceQuota); ok && (ch.Old == nil || !equality.Semantic.DeepEqual(ch.Old.(*corev1.ResourceQuota).Spec, q.Spec)) {
		emit(ch.Key)
	}
	if ch.Old != nil && ch.New != nil && !usesChanged(ch.Old, ch.New) {
		return
	}
	for o := range v.List("resourcequotas", ch.Key.Namespace) {
		emit(object.KeyOf(o))
	}
}

// usesChanged tells whether an object may count otherwise than before; most count by being there.
func usesChanged(old, now object.Object) bool {
	switch now := now.(type) {
	case *corev1.Pod:
		return podEnded(old.(*corev1.Pod)) != podEnded(now) || old.GetGeneration() != now.GetGeneration() || object.Resizing(old.(*corev1.Pod)) || object.Resizing(now) ||
			!old.GetDeletionTimestamp().Equal(now.GetDeletionTimestamp())
	case *corev1.Service, *corev1.PersistentVolumeClaim:
		return true
	}
	return false
}

func (quotas) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok {
		return Result{}, nil
	}
	live := o.(*corev1.ResourceQuota)
	q := *live
	c := counting{v: v, q: live, now: now}
	q.Status = corev1.ResourceQuotaStatus{Hard: live.Spec.Hard.DeepCopy(), Used: c.all()}
	wake := now.Add(quotaResync)
	if !c.expires.IsZero() && c.expires.Before(wake) {
		wake = c.expires
	}
	return Result{Put: []object.Object{&q}, Wake: wake}, nil
}

// counting is one run for one quota.
type counting struct {
	v   View
	q   *corev1.ResourceQuota
	now time.Time
	// expires is when the next of the pods that terminate counts no longer; zero for none.
	expires time.Time
	// pods is how many count; requests and limits are their sums, nil until they are asked for.
	pods             int
	requests, limits corev1.ResourceList
}

// countOf is how much of a limit is used; known is false for what we cannot count.
func (c *counting) countOf(name string) (n kresource.Quantity, known bool) {
	number := func(n int) (kresource.Quantity, bool) {
		return *kresource.NewQuantity(int64(n), kresource.DecimalSI), true
	}
	if what, generic := strings.CutPrefix(name, "count/"); generic {
		resource, _, _ := strings.Cut(what, ".")
		if _, ok := object.KindOfResource(resource); !ok {
			return n, false
		}
		return number(c.number(resource))
	}
	if class, what, ofClass := strings.Cut(name, ".storageclass.storage.k8s.io/"); ofClass {
		return c.storage(what, &class)
	}
	switch name {
	case "pods":
		c.sum()
		return number(c.pods)
	case "services", "configmaps", "secrets", "replicationcontrollers", "resourcequotas":
		return number(c.number(name))
	case "services.loadbalancers", "services.nodeports":
		return number(c.services(name == "services.nodeports"))
	case "persistentvolumeclaims", "requests.storage":
		return c.storage(name, nil)
	}
	c.sum()
	if what, isLimit := strings.CutPrefix(name, "limits."); isLimit {
		return c.limits[corev1.ResourceName(what)], true
	}
	return c.requests[corev1.ResourceName(strings.TrimPrefix(name, "requests."))], true
}

func (c *counting) number(resource string) int {
	n := 0
	if resource == "pods" {
		for a := range c.v.Alike(c.q.Namespace, "") {
			n += a.Pods
		}
		return n
	}
	if resource == "persistentvolumeclaims" {
		for range c.claims(nil) {
			n++
		}
		return n
	}
	for range c.v.List(resource, c.q.Namespace) {
		n++
	}
	return n
}

// services counts load balancers, or the ports of nodes that services take.
func (c *counting) services(ports bool) int {
	n := 0
	for o := range c.v.List("services", c.q.Namespace) {
		s := &o.(*corev1.Service).Spec
		balanced := s.Type == corev1.ServiceTypeLoadBalancer
		switch {
		case !ports && balanced:
			n++
		case ports && (s.Type == corev1.ServiceTypeNodePort || balanced):
			for i := range s.Ports {
				if !balanced || s.AllocateLoadBalancerNodePorts == nil || *s.AllocateLoadBalancerNodePorts || s.Ports[i].NodePort != 0 {
					n++
				}
			}
		}
	}
	return n
}

// storage counts claims, or sums up what they ask for; of a class, if one is given.
func (c *counting) storage(what string, class *string) (kresource.Quantity, bool) {
	sum, n := kresource.Quantity{Format: kresource.BinarySI}, int64(0)
	for claim := range c.claims(class) {
		n++
		sum.Add(claimStorage(claim))
	}
	switch what {
	case "persistentvolumeclaims":
		return *kresource.NewQuantity(n, kresource.DecimalSI), true
	case "requests.storage":
		return sum, true
	}
	return sum, false
}

// claims are those in the quota's scopes; of a storage class, if one is given.
func (c *counting) claims(class *string) iter.Seq[*corev1.PersistentVolumeClaim] {
	return func(yield func(*corev1.PersistentVolumeClaim) bool) {
		for o := range c.v.List("persistentvolumeclaims", c.q.Namespace) {
			claim := o.(*corev1.PersistentVolumeClaim)
			if class != nil && volume.GetPersistentVolumeClaimClass(claim) != *class || !claimInScopes(c.q, claim) {
				continue
			}
			if !yield(claim) {
				return
			}
		}
	}
}

// resizedToo counts a pod whose size is being changed with the greater of what it asks for and what it has.
var resizedToo = resource.PodResourcesOptions{UseStatusResources: true}

// sum adds up the pods that count: those in the quota's scopes that have not ended.
func (c *counting) sum() {
	if c.requests != nil {
		return
	}
	c.requests, c.limits = corev1.ResourceList{}, corev1.ResourceList{}
	for a := range c.v.Alike(c.q.Namespace, "") {
		p := a.Example
		if podEnded(p) || !inScopes(c.q, p) || c.stuck(p) {
			continue
		}
		c.pods += a.Pods
		addTo(c.requests, resource.PodRequests(p, resizedToo), a.Pods)
		addTo(c.limits, resource.PodLimits(p, resizedToo), a.Pods)
	}
}

// stuck tells whether a pod should be gone by now, with as long again as its grace; its node is lost, and its room is not held against its owner.
func (c *counting) stuck(p *corev1.Pod) bool {
	if p.DeletionTimestamp == nil || p.DeletionGracePeriodSeconds == nil {
		return false
	}
	at := p.DeletionTimestamp.Add(time.Duration(*p.DeletionGracePeriodSeconds) * time.Second)
	if c.now.After(at) {
		return true
	}
	if at = at.Add(time.Second); c.expires.IsZero() || at.Before(c.expires) {
		c.expires = at
	}
	return false
}

// addTo adds so many times more to sum.
func addTo(sum, more corev1.ResourceList, times int) {
	for name, q := range more {
		q = q.DeepCopy()
		q.Mul(int64(times))
		s, had := sum[name]
		if !had {
			s = kresource.Quantity{Format: q.Format}
		}
		s.Add(q)
		sum[name] = s
	}
}

// scopesOf are all scopes of a quota.
func scopesOf(q *corev1.ResourceQuota) (all []corev1.ScopedResourceSelectorRequirement) {
	for _, s := range q.Spec.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		all = append(all, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return all
}

// inScopes tells whether a quota counts a pod: all of its scopes must hold.
func inScopes(q *corev1.ResourceQuota, p *corev1.Pod) bool {
	return !slices.ContainsFunc(scopesOf(q), func(s corev1.ScopedResourceSelectorRequirement) bool { return !inScope(&s, p) })
}

// claimInScopes tells whether a quota counts a claim. The one scope of claims goes by the classes of volume attributes that a claim asks for, has, and is
// on its way to: one of them must hold.
func claimInScopes(q *corev1.ResourceQuota, claim *corev1.PersistentVolumeClaim) bool {
	var classes []string
	for _, c := range []*string{claim.Spec.VolumeAttributesClassName, claim.Status.CurrentVolumeAttributesClassName} {
		if c != nil && *c != "" {
			classes = append(classes, *c)
		}
	}
	if to := claim.Status.ModifyVolumeStatus; to != nil && to.TargetVolumeAttributesClassName != "" {
		classes = append(classes, to.TargetVolumeAttributesClassName)
	}
	for _, s := range scopesOf(q) {
		if s.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
			return false
		}
		var in bool
		switch s.Operator {
		case corev1.ScopeSelectorOpIn:
			in = slices.ContainsFunc(classes, func(c string) bool { return slices.Contains(s.Values, c) })
		case corev1.ScopeSelectorOpNotIn:
			in = len(classes) == 0 || slices.ContainsFunc(classes, func(c string) bool { return !slices.Contains(s.Values, c) })
		case corev1.ScopeSelectorOpDoesNotExist:
			in = len(classes) == 0
		default:
			in = len(classes) > 0
		}
		if !in {
			return false
		}
	}
	return true
}

func inScope(s *corev1.ScopedResourceSelectorRequirement, p *corev1.Pod) bool {
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return p.Spec.ActiveDeadlineSeconds != nil
	case corev1.ResourceQuotaScopeNotTerminating:
		return p.Spec.ActiveDeadlineSeconds == nil
	case corev1.ResourceQuotaScopeBestEffort:
		return p.Status.QOSClass == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return p.Status.QOSClass != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		class := p.Spec.PriorityClassName
		switch s.Operator {
		case corev1.ScopeSelectorOpIn:
			return slices.Contains(s.Values, class)
		case corev1.ScopeSelectorOpNotIn:
			return !slices.Contains(s.Values, class)
		case corev1.ScopeSelectorOpDoesNotExist:
			return class == ""
		}
		return class != ""
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return object.CrossesNamespaces(p)
	}
	return false
}
