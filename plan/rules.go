package plan

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	pods := map[string][]map[string]string{} // the labels of those that came or went, by namespace
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
		case "pods", "daemonsets", "deployments", "replicationcontrollers", "statefulsets":
			if ch.Key.Resource == "pods" && verbOf(ch) == VerbChange {
				continue
			}
			for _, o := range []object.Object{ch.Old, ch.New} {
				if o != nil {
					pods[ch.Key.Namespace] = append(pods[ch.Key.Namespace], podLabels(o))
				}
			}
		}
	}
	for ns, list := range pods {
		var services []*corev1.Service
		keys := map[string]bool{}
		for _, v := range []controller.View{in.Base, in.After} {
			for o := range v.List("services", ns) {
				if svc := o.(*corev1.Service); len(svc.Spec.Selector) > 0 {
					services = append(services, svc)
					for k := range svc.Spec.Selector {
						keys[k] = true
					}
				}
			}
		}
		sets := selectable(list, keys)
		for _, svc := range services {
			if anyMatches(svc, sets) {
				out[object.KeyOf(svc)] = true
			}
		}
	}
	return out
}

// selectable are the labels under the keys, each set once: the pods of an indexed Job all have labels of their own, which no service asks for.
func selectable(list []map[string]string, keys map[string]bool) (out []labels.Set) {
	seen := map[string]bool{}
	for _, l := range list {
		part := labels.Set{}
		for k, v := range l {
			if keys[k] {
				part[k] = v
			}
		}
		if text := part.String(); !seen[text] {
			seen[text] = true
			out = append(out, part)
		}
	}
	return out
}

// podLabels are a pod's labels, or those that what keeps pods gives them.
func podLabels(o object.Object) map[string]string {
	if t, _ := templateOf(o); t != nil {
		return t.Labels
	}
	return o.GetLabels()
}

func anyMatches(svc *corev1.Service, sets []labels.Set) bool {
	sel := labels.SelectorFromSet(svc.Spec.Selector)
	return slices.ContainsFunc(sets, func(s labels.Set) bool { return sel.Matches(s) })
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
		if len(svc.Spec.Selector) > 0 {
			expected[object.KeyOf(svc)], _ = selected(v, svc)
		}
	}
	out := map[ruleID]rule{}
	for _, r := range model.Rules(list, parts) {
		key := object.Key{Resource: "services", Namespace: r.Namespace, Name: r.Service}
		out[ruleID{key, r.Frontend}] = rule{backends: r.Backends, Rule: Rule{Service: key, Port: r.Port, Address: r.Frontend,
			Expected: expect(expected, key, len(r.Backends)), Ready: len(r.Backends), Notes: r.Notes}}
	}
	return out
}

// expect is the number of endpoints to come; a service without a selector has those that somebody wrote.
func expect(selected map[object.Key]int, key object.Key, ready int) int {
	if n, ok := selected[key]; ok {
		return n
	}
	return ready
}

// selected counts the pods that will be a service's endpoints once all is ready: those that are wanted by what keeps a number of them,
// so that neither the surge of a rolling update nor the gap of Recreate counts, and others one by one. any tells whether
// there is anything whose pods it selects.
func selected(v controller.View, svc *corev1.Service) (n int, any bool) {
	if len(svc.Spec.Selector) == 0 {
		return 0, false
	}
	sel := labels.SelectorFromSet(svc.Spec.Selector)
	for _, resource := range keepers {
		for o := range v.List(resource, svc.Namespace) {
			if t, size := templateOf(o); t != nil && o.GetDeletionTimestamp() == nil && metav1.GetControllerOfNoCopy(o) == nil && sel.Matches(labels.Set(t.Labels)) {
				n, any = n+size, true
			}
		}
	}
	for o := range v.List("pods", svc.Namespace) {
		p := o.(*corev1.Pod)
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed &&
			!slices.Contains(keepers, controller.TopOwner(v, p).Resource) && sel.Matches(labels.Set(p.Labels)) {
			n, any = n+1, true
		}
	}
	return n, any
}

// keepers are the resources whose objects keep a number of pods.
var keepers = []string{"daemonsets", "deployments", "replicasets", "replicationcontrollers", "statefulsets"}

// templateOf is the template of what keeps pods, and how many of them it wants.
func templateOf(o object.Object) (*corev1.PodTemplateSpec, int) {
	switch o := o.(type) {
	case *appsv1.DaemonSet:
		return &o.Spec.Template, int(o.Status.DesiredNumberScheduled)
	case *appsv1.Deployment:
		return &o.Spec.Template, wanted(o.Spec.Replicas)
	case *appsv1.ReplicaSet:
		return &o.Spec.Template, wanted(o.Spec.Replicas)
	case *appsv1.StatefulSet:
		return &o.Spec.Template, wanted(o.Spec.Replicas)
	case *corev1.ReplicationController:
		return o.Spec.Template, wanted(o.Spec.Replicas)
	}
	return nil, 0
}

func wanted(replicas *int32) int {
	if replicas == nil {
		return 1
	}
	return int(*replicas)
}
