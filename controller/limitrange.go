package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/component-helpers/resource"
)

// annotationLimited is where a pod tells what it was given by LimitRanges.
const annotationLimited = "kubernetes.io/limit-ranger"

func limitRanges(v View, namespace string) (out []*corev1.LimitRange) {
	for o := range v.List("limitranges", namespace) {
		out = append(out, o.(*corev1.LimitRange))
	}
	return out
}

// applyLimits gives a pod that a controller makes what its namespace's LimitRanges give containers that do not say, and refuses one that is not
// within their bounds (Forbidden, in Kubernetes' words), as admission does with what clients write. It changes p, and nothing that p shares.
func applyLimits(limits []*corev1.LimitRange, p *corev1.Pod) error {
	if len(limits) == 0 {
		return nil
	}
	var told []string
	for _, l := range limits {
		// Each LimitRange tells what it set; the last one's words stay.
		if t := giveDefaults(l, p); len(t) > 0 {
			told = t
		}
	}
	if len(told) > 0 {
		p.Annotations = maps.Clone(p.Annotations)
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[annotationLimited] = "LimitRanger plugin set: " + strings.Join(told, "; ")
	}
	for _, l := range limits {
		if err := podWithin(l, p); err != nil {
			return podForbidden(p, err)
		}
	}
	return nil
}

// giveDefaults gives containers the requests and limits that they leave out, and tells what it gave.
func giveDefaults(l *corev1.LimitRange, p *corev1.Pod) (told []string) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range l.Spec.Limits {
		if l.Spec.Limits[i].Type == corev1.LimitTypeContainer {
			maps.Copy(requests, l.Spec.Limits[i].DefaultRequest)
			maps.Copy(limits, l.Spec.Limits[i].Default)
		}
	}
	give := func(list []corev1.Container, kind string) []corev1.Container {
		list = slices.Clone(list)
		for i := range list {
			r := &list[i].Resources
			var asked, limited []string
			r.Limits, limited = withMissing(r.Limits, limits)
			r.Requests, asked = withMissing(r.Requests, requests)
			if len(asked) > 0 {
				told = append(told, strings.Join(asked, ", ")+" request for "+kind+" "+list[i].Name)
			}
			if len(limited) > 0 {
				told = append(told, strings.Join(limited, ", ")+" limit for "+kind+" "+list[i].Name)
			}
		}
		return list
	}
	p.Spec.Containers = give(p.Spec.Containers, "container")
	p.Spec.InitContainers = give(p.Spec.InitContainers, "init container")
	return told
}

// withMissing is a list with what it lacks of more, and the names of that.
func withMissing(list, more corev1.ResourceList) (corev1.ResourceList, []string) {
	var names []string
	for name := range more {
		if _, ok := list[name]; !ok {
			names = append(names, string(name))
		}
	}
	if len(names) == 0 {
		return list, nil
	}
	out := corev1.ResourceList{}
	maps.Copy(out, list)
	for _, name := range names {
		out[corev1.ResourceName(name)] = more[corev1.ResourceName(name)].DeepCopy()
	}
	slices.Sort(names)
	return out, names
}

// podWithin lists what of a pod is not within a LimitRange.
func podWithin(l *corev1.LimitRange, p *corev1.Pod) error {
	var errs []error
	for i := range l.Spec.Limits {
		b := bounds{&l.Spec.Limits[i]}
		switch b.Type {
		case corev1.LimitTypeContainer:
			for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
				for j := range list {
					errs = append(errs, b.check(list[j].Resources.Requests, list[j].Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			errs = append(errs, b.check(resource.PodRequests(p, resource.PodResourcesOptions{}), resource.PodLimits(p, resource.PodResourcesOptions{}))...)
		}
	}
	return utilerrors.NewAggregate(errs)
}

// bounds are one item of a LimitRange.
type bounds struct{ *corev1.LimitRangeItem }

func text(q kresource.Quantity) string { return q.String() }

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(list))
}

// check lists what of requests and limits is out of bounds.
func (b bounds) check(requests, limits corev1.ResourceList) (errs []error) {
	for _, name := range sortedNames(b.Min) {
		errs = append(errs, b.least(name, requests, limits))
	}
	for _, name := range sortedNames(b.Max) {
		errs = append(errs, b.most(name, requests, limits))
	}
	for _, name := range sortedNames(b.MaxLimitRequestRatio) {
		errs = append(errs, b.ratio(name, requests, limits))
	}
	return errs
}

func (b bounds) least(name corev1.ResourceName, requests, limits corev1.ResourceList) error {
	least := b.Min[name]
	req, asked := requests[name]
	lim, limited := limits[name]
	switch {
	case !asked:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, b.Type, text(least))
	case req.Cmp(least) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, b.Type, text(least), text(req))
	case limited && lim.Cmp(least) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, b.Type, text(least), text(lim))
	}
	return nil
}

func (b bounds) most(name corev1.ResourceName, requests, limits corev1.ResourceList) error {
	most := b.Max[name]
	req, asked := requests[name]
	lim, limited := limits[name]
	switch {
	case !limited:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, b.Type, text(most))
	case lim.Cmp(most) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, b.Type, text(most), text(lim))
	case asked && req.Cmp(most) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, b.Type, text(most), text(req))
	}
	return nil
}

func (b bounds) ratio(name corev1.ResourceName, requests, limits corev1.ResourceList) error {
	most := b.MaxLimitRequestRatio[name]
	req, lim := requests[name], limits[name]
	switch {
	case req.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, b.Type, text(most))
	case lim.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, b.Type, text(most))
	}
	if ratio := lim.AsApproximateFloat64() / req.AsApproximateFloat64(); ratio > most.AsApproximateFloat64() {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, b.Type, text(most), ratio)
	}
	return nil
}
