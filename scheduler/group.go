package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// group is all pods on nodes that the rules about other pods cannot tell apart: one namespace, the same labels as far as rules read them, and the same
// terms of affinity, terminating or not. The pods of a Deployment are one group, or two while some of them go.
type group struct {
	namespace   string
	labels      labels.Set // one pod's
	affinity    *corev1.Affinity
	terminating bool
	terms       terms
	gang        *runningGang    // nil for none
	on          map[int32]int64 // pods by node
	among       *groups
	hash        uint64
}

// groups finds the group of a pod.
type groups struct {
	all    []*group
	byHash map[uint64][]*group
	recent map[types.UID]*group // the last one of an owner
	gangs  map[gangKey]*runningGang
	keys   *labelKeys
}

func newGroups() *groups {
	return &groups{byHash: map[uint64][]*group{}, recent: map[types.UID]*group{}, gangs: map[gangKey]*runningGang{}, keys: newLabelKeys()}
}

// without are the same groups but those of some namespaces, which are returned.
func (g *groups) without(gone func(namespace string) bool) (out *groups, old []*group) {
	out = newGroups()
	out.keys = g.keys
	for _, r := range g.all {
		if gone(r.namespace) {
			old = append(old, r)
			continue
		}
		r.among = out
		out.all = append(out.all, r)
		out.byHash[r.hash] = append(out.byHash[r.hash], r)
	}
	for owner, r := range g.recent {
		if r.among == out {
			out.recent[owner] = r
		}
	}
	for key, r := range g.gangs {
		if !gone(key.namespace) {
			out.gangs[key] = r
		}
	}
	return out, old
}

// of returns the group of the pod, which is made if there is none yet.
func (g *groups) of(pod *corev1.Pod, terminating bool) *group {
	owner := types.UID("")
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		owner = ref.UID
	}
	if r := g.recent[owner]; r != nil && r.is(pod, terminating) {
		return r
	}
	h := g.keys.hash(pod.Namespace, pod.Labels)
	for _, r := range g.byHash[h] {
		if r.is(pod, terminating) {
			g.recent[owner] = r
			return r
		}
	}
	r := &group{namespace: pod.Namespace, labels: pod.Labels, affinity: podAffinity(pod), terminating: terminating, terms: termsOf(pod), on: map[int32]int64{}, among: g, hash: h}
	g.keys.readTerms(&r.terms)
	g.all = append(g.all, r)
	r.gang = g.joins(pod, r)
	g.byHash[h] = append(g.byHash[h], r)
	g.recent[owner] = r
	return r
}

func (g *group) is(pod *corev1.Pod, terminating bool) bool {
	if g.terminating != terminating || g.namespace != pod.Namespace || !g.among.keys.same(g.namespace, g.labels, pod.Labels) {
		return false
	}
	a := podAffinity(pod)
	return a == g.affinity || a != nil && g.affinity != nil && equality.Semantic.DeepEqual(a.PodAffinity, g.affinity.PodAffinity) &&
		equality.Semantic.DeepEqual(a.PodAntiAffinity, g.affinity.PodAntiAffinity)
}

// podAffinity is the pod's affinity if it says anything about other pods.
func podAffinity(pod *corev1.Pod) *corev1.Affinity {
	a := pod.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	return a
}

// hash is FNV-1a (Fowler, Noll, Vo), 64 bits.
func hash(t string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(t) {
		h = (h ^ uint64(t[i])) * 1099511628211
	}
	return h
}

// mix is the finaliser of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
