package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// term is one term of a pod's affinity or anti-affinity to other pods.
type term struct {
	key        string // topologyKey
	namespaces sets.Set[string]
	nsSelector labels.Selector
	selector   labels.Selector
	weight     int64 // of a preferred term; negative for anti-affinity
}

// terms are a pod's.
type terms struct {
	affinity, anti, preferred []term
}

func (t *terms) empty() bool { return len(t.affinity)+len(t.anti)+len(t.preferred) == 0 }

// namespaceLabels are a namespace's labels, and whether there is one of the name.
type namespaceLabels struct {
	labels labels.Set
	known  bool
}

func termsOf(pod *corev1.Pod) (out terms) {
	a := pod.Spec.Affinity
	if a == nil {
		return out
	}
	if p := a.PodAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			out.affinity = append(out.affinity, newTerm(pod, &p.RequiredDuringSchedulingIgnoredDuringExecution[i], 0))
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &p.PreferredDuringSchedulingIgnoredDuringExecution[i]
			out.preferred = append(out.preferred, newTerm(pod, &w.PodAffinityTerm, int64(w.Weight)))
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		for i := range p.RequiredDuringSchedulingIgnoredDuringExecution {
			out.anti = append(out.anti, newTerm(pod, &p.RequiredDuringSchedulingIgnoredDuringExecution[i], 0))
		}
		for i := range p.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &p.PreferredDuringSchedulingIgnoredDuringExecution[i]
			out.preferred = append(out.preferred, newTerm(pod, &w.PodAffinityTerm, -int64(w.Weight)))
		}
	}
	return out
}

func newTerm(pod *corev1.Pod, t *corev1.PodAffinityTerm, weight int64) term {
	out := term{key: t.TopologyKey, selector: selectorOf(t.LabelSelector), nsSelector: selectorOf(t.NamespaceSelector), weight: weight,
		namespaces: sets.New(t.Namespaces...)}
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		out.namespaces.Insert(pod.Namespace)
	}
	return out
}

// selectorOf is what s selects: nothing if it is nil or cannot be read, which admission refuses.
func selectorOf(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

// selects tells whether the term of a pod that is to be placed means a pod that is there. kube-scheduler 1.36 asks its namespaceSelector
// about no labels at all too, so that NotIn and DoesNotExist select every namespace; the answers being the same comes first.
func (t *term) selects(namespace string, ns namespaceLabels, l labels.Set) bool {
	in := t.namespaces.Has(namespace) || t.nsSelector.Matches(labels.Set{}) || ns.known && t.nsSelector.Matches(ns.labels)
	return in && t.selector.Matches(l)
}

// means tells whether the term of a pod that is there means the pod that is to be placed.
func (t *term) means(namespace string, ns namespaceLabels, l labels.Set) bool {
	return (t.namespaces.Has(namespace) || t.nsSelector.Matches(ns.labels)) && t.selector.Matches(l)
}
