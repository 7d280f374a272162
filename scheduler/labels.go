package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxLabelKeys is how many keys of labels are read of the pods of one namespace, or by rules that look at all; with more, all labels are told apart there.
const maxLabelKeys = 100

// labelKeys are the keys of pods' labels that rules read. Pods whose labels differ in others only are alike to all rules: those of a StatefulSet have
// their name in a label, those of an indexed Job their index, and were else each a group and a class of its own.
type labelKeys struct {
	everywhere map[string]bool            // by terms of affinity that look at pods of any namespace
	inside     map[string]map[string]bool // by those that name namespaces, and by spread constraints and services, which look at those of their own
	apart      bool                       // all labels are told apart
	// fresh are the namespaces, "" for all, for whose pods more keys are read than when their groups were made.
	fresh map[string]bool
}

func newLabelKeys() *labelKeys {
	return &labelKeys{everywhere: map[string]bool{LabelGang: true, LabelGangMin: true, labelPartOf: true, labelPart: true}, inside: map[string]map[string]bool{}, fresh: map[string]bool{}}
}

// read notes that a selector reads labels: of pods of one namespace, of all if it is empty.
func (k *labelKeys) read(namespace string, s labels.Selector) {
	rest, _ := s.Requirements()
	for i := range rest {
		k.add(namespace, rest[i].Key())
	}
}

func (k *labelKeys) add(namespace, key string) {
	if k.reads(namespace, key) {
		return
	}
	k.fresh[namespace] = true
	if namespace == "" {
		k.everywhere[key] = true
		k.apart = len(k.everywhere) > maxLabelKeys
		return
	}
	if k.inside[namespace] == nil {
		k.inside[namespace] = map[string]bool{}
	}
	k.inside[namespace][key] = true
}

// reads tells whether a label of a namespace's pods matters.
func (k *labelKeys) reads(namespace, key string) bool {
	return k.everywhere[key] || k.inside[namespace][key] || k.all(namespace)
}

// all tells whether all labels of a namespace's pods matter.
func (k *labelKeys) all(namespace string) bool {
	return k.apart || len(k.inside[namespace]) > maxLabelKeys
}

// same tells whether the labels of two pods of a namespace are the same to all rules.
func (k *labelKeys) same(namespace string, a, b map[string]string) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	inside, all, more := k.inside[namespace], k.all(namespace), 0
	for key, v := range a {
		if !all && !inside[key] && !k.everywhere[key] {
			continue
		}
		if w, ok := b[key]; !ok || v != w {
			return false
		}
		more++
	}
	for key := range b {
		if all || inside[key] || k.everywhere[key] {
			more--
		}
	}
	return more == 0
}

// hash is the same for labels that are the same, in any order.
func (k *labelKeys) hash(namespace string, l map[string]string) uint64 {
	h := hash(namespace)
	for key, v := range l {
		if k.reads(namespace, key) {
			h ^= mix(hash(key) + 3*hash(v))
		}
	}
	return h
}

// readTerms notes what the terms of a pod read.
func (k *labelKeys) readTerms(t *terms) {
	for _, list := range [][]term{t.affinity, t.anti, t.preferred} {
		for i := range list {
			if _, some := list[i].nsSelector.Requirements(); some {
				k.read("", list[i].selector)
				continue
			}
			for namespace := range list[i].namespaces {
				k.read(namespace, list[i].selector)
			}
		}
	}
}

// readConstraints notes what the spread constraints of a class read.
func (k *labelKeys) readConstraints(c *class) {
	for _, list := range [][]constraint{c.hard, c.soft} {
		for i := range list {
			k.read(c.pod.Namespace, list[i].selector)
		}
	}
	for i := range c.pod.Spec.TopologySpreadConstraints {
		for _, key := range c.pod.Spec.TopologySpreadConstraints[i].MatchLabelKeys {
			k.add(c.pod.Namespace, key)
		}
	}
}

// readServices notes what the services of a namespace read of its pods, once: pods without constraints are spread with those of their services.
func (s *Snapshot) readServices(namespace string) {
	if s.serviced[namespace] {
		return
	}
	s.serviced[namespace] = true
	for o := range s.src.List("services", namespace) {
		s.readService(o)
	}
}

func (s *Snapshot) readService(o any) {
	if svc, ok := o.(*corev1.Service); ok {
		for key := range svc.Spec.Selector {
			s.groups.keys.add(svc.Namespace, key)
		}
	}
}

// grouped sees to it that the group of a pod that comes to a node is one of today's: its class may have been made before.
func (s *Snapshot) grouped(p *podState) {
	if p.group.among != s.groups {
		p.group = s.groups.of(p.pod, p.group.terminating)
	}
}

// regroup tells pods on nodes apart by the labels that are read by now. Classes stay: none reads a key that came to be read after it was made.
func (s *Snapshot) regroup() {
	fresh := s.groups.keys.fresh
	if len(fresh) == 0 {
		return
	}
	if s.keeping != nil {
		s.hear() // while the log's groups are those of the pods
	}
	var old []*group
	s.groups, old = s.groups.without(func(namespace string) bool { return fresh[""] || fresh[namespace] })
	clear(fresh)
	for _, g := range old {
		for at := range g.on {
			for _, p := range s.nodes[at].pods {
				if p.group == g {
					p.group = s.groups.of(p.pod, g.terminating)
					p.group.on[at]++
				}
			}
		}
	}
	for _, at := range s.orders {
		for _, p := range s.nodes[at].nominated {
			s.grouped(p)
		}
	}
}
