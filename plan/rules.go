package plan

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/controller"
	"reconcile/object"
	"reconcile/proxy/model"
)

// rulesOf compares the service rules before and after, of the services that any written change concerns. The rules are those
// of proxy/model, which the machines program.
func rulesOf(in Input) []Rule {
	services := concerned(in)
	before, after := rulesIn(in.Base, services), rulesIn(in.After, services)
	var out []Rule
	for id, r := range after {
		was, had := before[id]
		switch {
		case !had:
			r.Verb = VerbCreate
		case was.Expected == r.Expected && was.Ready == r.Ready && slices.Equal(was.Notes, r.Notes) && slices.Equal(was.backends, r.backends):
			continue
		default:
			r.Verb = VerbChange
		}
		out = append(out, r.Rule)
	}
	for id, r := range before {
		if _, kept := after[id]; !kept {
			r.Verb, r.Expected, r.Ready = VerbDelete, 0, 0
			out = append(out, r.Rule)
		}
	}
	slices.SortFunc(out, func(a, b Rule) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// ruleID tells rules apart: a rule keeps its identity while its address and service do.
type ruleID struct {
	service object.Key
	address string
}

type rule struct {
	Rule
	backends []string
}

// concerned are the services that changed, whose slices changed, or that select a pod which came or went.
func concerned(in Input) map[object.Key]bool {
	out := map[object.Key]bool{}
	pods := map[string][]labels.Set{} // by namespace, each set once
	for _, ch := range in.Written {
		switch ch.Key.Resource {
		case "services":
			out[ch.Key] = true
		case "endpointslices":
			for _, o := range []object.Object{ch.Old, ch.New} {
				if o != nil {
					out[object.Key{Resource: "services", Namespace: ch.Key.Namespace, Name: o.GetLabels()[discoveryv1.LabelServiceName]}] = true
				}
			}
		case "pods":
			if verbOf(ch) == VerbChange {
				continue
			}
			for _, o := range []object.Object{ch.Old, ch.New} {
				if o != nil {
					pods[ch.Key.Namespace] = addSet(pods[ch.Key.Namespace], o.GetLabels())
				}
			}
		}
	}
	for ns, sets := range pods {
		for _, v := range []controller.View{in.Base, in.After} {
			for o := range v.List("services", ns) {
				svc := o.(*corev1.Service)
				if len(svc.Spec.Selector) > 0 && anyMatches(svc, sets) {
					out[object.KeyOf(svc)] = true
				}
			}
		}
	}
	return out
}

func anyMatches(svc *corev1.Service, sets []labels.Set) bool {
	sel := labels.SelectorFromSet(svc.Spec.Selector)
	return slices.ContainsFunc(sets, func(s labels.Set) bool { return sel.Matches(s) })
}

func addSet(sets []labels.Set, l map[string]string) []labels.Set {
	if slices.ContainsFunc(sets, func(s labels.Set) bool { return labels.Equals(s, l) }) {
		return sets
	}
	return append(sets, l)
}

// rulesIn returns the rules of the services as they are in a view.
func rulesIn(v controller.View, services map[object.Key]bool) map[ruleID]rule {
	var list []*corev1.Service
	spaces := map[string]bool{}
	for k := range services {
		if o, ok := v.Get(k); ok && o.GetDeletionTimestamp() == nil {
			list = append(list, o.(*corev1.Service))
			spaces[k.Namespace] = true
		}
	}
	var parts []*discoveryv1.EndpointSlice
	for ns := range spaces {
		for o := range v.List("endpointslices", ns) {
			s := o.(*discoveryv1.EndpointSlice)
			if services[object.Key{Resource: "services", Namespace: ns, Name: s.Labels[discoveryv1.LabelServiceName]}] {
				parts = append(parts, s)
			}
		}
	}
	expected := map[object.Key]int{}
	for _, svc := range list {
		expected[object.KeyOf(svc)] = selected(v, svc)
	}
	out := map[ruleID]rule{}
	for _, r := range model.Rules(list, parts) {
		key := object.Key{Resource: "services", Namespace: r.Namespace, Name: r.Service}
		out[ruleID{key, r.Frontend}] = rule{backends: r.Backends, Rule: Rule{Service: key, Port: r.Port, Address: r.Frontend,
			Expected: max(expected[key], len(r.Backends)), Ready: len(r.Backends), Notes: r.Notes}}
	}
	return out
}

// selected counts the pods that will be a service's endpoints once they are ready.
func selected(v controller.View, svc *corev1.Service) int {
	if len(svc.Spec.Selector) == 0 {
		return 0
	}
	n := 0
	sel := labels.SelectorFromSet(svc.Spec.Selector)
	for o := range v.List("pods", svc.Namespace) {
		p := o.(*corev1.Pod)
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && sel.Matches(labels.Set(p.Labels)) {
			n++
		}
	}
	return n
}
