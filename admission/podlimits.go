package admission

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"reconcile/object"
)

// limitRangerNote is the annotation that says which resources a LimitRange has set.
const limitRangerNote = "kubernetes.io/limit-ranger"

// AdmitPod completes a new pod and refuses it (Forbidden) as Kubernetes' admission does before it looks at quotas: defaults, its ServiceAccount, RuntimeClass, and what
// the LimitRanges of its namespace give and bound. It changes p, and nothing that p may share; a second time it changes nothing. The type of the
// view is a parameter so that the function is one for who declares a View of its own.
func AdmitPod[V View](v V, p *corev1.Pod) error {
	PodDefaults(p)
	if err := DefaultAccount(v, p); err != nil {
		return err
	}
	if err := DefaultRuntime(v, p); err != nil {
		return err
	}
	DefaultResources(v, p)
	return CheckLimits(v, p, nil)
}

// AdmitClaim refuses a new claim (Forbidden) that the LimitRanges of its namespace do not allow.
func AdmitClaim[V View](v V, c *corev1.PersistentVolumeClaim) error { return CheckLimits(v, c, nil) }

// DefaultResources gives the containers of a new pod the requests and limits that the LimitRanges of its namespace have for those who name none,
// as Kubernetes' admission plugin LimitRanger does. It changes p, and nothing that p may share.
func DefaultResources(v View, p *corev1.Pod) {
	for o := range v.List("limitranges", p.Namespace) {
		var requests, limits corev1.ResourceList
		for _, l := range o.(*corev1.LimitRange).Spec.Limits {
			if l.Type == corev1.LimitTypeContainer {
				requests, limits = with(requests, l.DefaultRequest), with(limits, l.Default)
			}
		}
		if len(requests)+len(limits) == 0 {
			continue
		}
		var said []string
		fill := func(list []corev1.Container, what string) []corev1.Container {
			list = slices.Clone(list)
			for i := range list {
				r := &list[i].Resources
				for _, part := range []struct {
					of       *corev1.ResourceList
					defaults corev1.ResourceList
					name     string
				}{{&r.Requests, requests, "request"}, {&r.Limits, limits, "limit"}} {
					filled, names := missing(*part.of, part.defaults)
					*part.of = filled
					if len(names) > 0 {
						said = append(said, fmt.Sprintf("%s %s for %s %s", strings.Join(names, ", "), part.name, what, list[i].Name))
					}
				}
			}
			return list
		}
		p.Spec.Containers = fill(p.Spec.Containers, "container")
		p.Spec.InitContainers = fill(p.Spec.InitContainers, "init container")
		if len(said) > 0 {
			p.Annotations = over(p.Annotations, map[string]string{limitRangerNote: "LimitRanger plugin set: " + strings.Join(said, "; ")})
		}
	}
}

// with is a list and what another one names besides; neither is changed.
func with(list, more corev1.ResourceList) corev1.ResourceList {
	out, _ := missing(more, list)
	return out
}

// missing is a list with the defaults for what it does not name, and the names of those, in order. The list is not changed.
func missing(list, defaults corev1.ResourceList) (corev1.ResourceList, []string) {
	var names []string
	for name := range defaults {
		if _, ok := list[name]; !ok {
			names = append(names, string(name))
		}
	}
	if len(names) == 0 {
		return list, nil
	}
	out := maps.Clone(list)
	if out == nil {
		out = corev1.ResourceList{}
	}
	for _, name := range names {
		out[corev1.ResourceName(name)] = defaults[corev1.ResourceName(name)].DeepCopy()
	}
	slices.Sort(names)
	return out, names
}

// CheckLimits refuses a pod that is created, or a claim that is created or changed, if it is outside of what the LimitRanges of its namespace allow
// (Forbidden, in Kubernetes' words). old is nil for a creation.
func CheckLimits(v View, o, old object.Object) error {
	var faults func(corev1.LimitRangeItem) []error
	switch o := o.(type) {
	case *corev1.Pod:
		if old != nil && sameResources(o, old.(*corev1.Pod)) {
			return nil
		}
		faults = func(l corev1.LimitRangeItem) []error { return podFaults(l, o) }
	case *corev1.PersistentVolumeClaim:
		faults = func(l corev1.LimitRangeItem) []error { return claimFaults(l, o) }
	default:
		return nil
	}
	if old != nil && old.GetDeletionTimestamp() != nil {
		return nil
	}
	for r := range v.List("limitranges", o.GetNamespace()) {
		var all []error
		for _, l := range r.(*corev1.LimitRange).Spec.Limits {
			all = append(all, faults(l)...)
		}
		if len(all) > 0 {
			k, err := object.KindOfObject(o)
			if err != nil {
				return err
			}
			return apierrors.NewForbidden(k.GroupResource(), o.GetName(), together(all))
		}
	}
	return nil
}

// sameResources tells whether two states of a pod ask for the same.
func sameResources(p, old *corev1.Pod) bool {
	return equal(p.Spec.Resources, old.Spec.Resources) && slices.EqualFunc(p.Spec.Containers, old.Spec.Containers, func(a, b corev1.Container) bool {
		return equal(a.Resources, b.Resources)
	})
}

// together is one error of several, as Kubernetes' aggregates print: "[a, b]".
func together(all []error) error {
	if len(all) == 1 {
		return all[0]
	}
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return errors.New("[" + strings.Join(texts, ", ") + "]")
}

func podFaults(l corev1.LimitRangeItem, p *corev1.Pod) []error {
	switch l.Type {
	case corev1.LimitTypePod:
		opts := resource.PodResourcesOptions{}
		return boundFaults(l, resource.PodRequests(p, opts), resource.PodLimits(p, opts))
	case corev1.LimitTypeContainer:
		var out []error
		for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
			out = append(out, boundFaults(l, c.Resources.Requests, c.Resources.Limits)...)
		}
		return out
	}
	return nil
}

// boundFaults compares requests and limits with the bounds of one item.
func boundFaults(l corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var out []error
	say := func(format string, args ...any) { out = append(out, fmt.Errorf(format, args...)) }
	inOrder(l.Min, func(name corev1.ResourceName, least kresource.Quantity) {
		req, asked := requests[name]
		lim, limited := limits[name]
		about := fmt.Sprintf("minimum %s usage per %s is %s", name, l.Type, least.String())
		switch {
		case !asked:
			say("%s.  No request is specified", about)
		case req.Cmp(least) < 0:
			say("%s, but request is %s", about, req.String())
		case limited && lim.Cmp(least) < 0:
			say("%s, but limit is %s", about, lim.String())
		}
	})
	inOrder(l.Max, func(name corev1.ResourceName, most kresource.Quantity) {
		req, asked := requests[name]
		lim, limited := limits[name]
		about := fmt.Sprintf("maximum %s usage per %s is %s", name, l.Type, most.String())
		switch {
		case !limited:
			say("%s.  No limit is specified", about)
		case lim.Cmp(most) > 0:
			say("%s, but limit is %s", about, lim.String())
		case asked && req.Cmp(most) > 0:
			say("%s, but request is %s", about, req.String())
		}
	})
	inOrder(l.MaxLimitRequestRatio, func(name corev1.ResourceName, most kresource.Quantity) {
		req, lim := requests[name], limits[name]
		about := fmt.Sprintf("%s max limit to request ratio per %s is %s", name, l.Type, most.String())
		switch {
		case req.IsZero():
			say("%s, but no request is specified or request is 0", about)
		case lim.IsZero():
			say("%s, but no limit is specified or limit is 0", about)
		default:
			if ratio := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); ratio > most.AsApproximateFloat64() {
				say("%s, but provided ratio is %f", about, ratio)
			}
		}
	})
	return out
}

func claimFaults(l corev1.LimitRangeItem, c *corev1.PersistentVolumeClaim) []error {
	if l.Type != corev1.LimitTypePersistentVolumeClaim {
		return nil
	}
	// What a claim's limits say does not matter.
	out := boundFaults(corev1.LimitRangeItem{Type: l.Type, Min: l.Min}, c.Spec.Resources.Requests, nil)
	inOrder(l.Max, func(name corev1.ResourceName, most kresource.Quantity) {
		req, asked := c.Spec.Resources.Requests[name]
		about := fmt.Sprintf("maximum %s usage per %s is %s", name, l.Type, most.String())
		switch {
		case !asked:
			out = append(out, fmt.Errorf("%s.  No request is specified", about))
		case req.Cmp(most) > 0:
			out = append(out, fmt.Errorf("%s, but request is %s", about, req.String()))
		}
	})
	return out
}

// inOrder calls f for each of a list, in the order of names.
func inOrder(list corev1.ResourceList, f func(corev1.ResourceName, kresource.Quantity)) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		f(name, list[name])
	}
}
