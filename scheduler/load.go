package scheduler

import (
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// usageSource is a Source that also tells what pods were measured to use.
type usageSource interface {
	// Usage is the last measurement of a pod; false if there is none.
	Usage(pod object.Key) (object.Usage, bool)
}

// measures tells whether a profile scores nodes by what their pods use.
func (p Profiles) measures() bool {
	for _, one := range p {
		if one.Weights[measuredLoad] > 0 {
			return true
		}
	}
	return false
}

// useOf is what a pod was measured to use. One that was not measured yet counts with what scoring counts of its requests, lest all that come at once
// fall upon the node that was idle last.
func (s *Snapshot) useOf(pod *corev1.Pod, d *demand) score {
	if src, ok := s.src.(usageSource); ok {
		if u, ok := src.Usage(object.KeyOf(pod)); ok {
			var sum score
			for _, list := range u.Containers {
				sum.cpu += list.Cpu().MilliValue()
				sum.memory += list.Memory().Value()
			}
			return sum
		}
	}
	return d.score
}

// load adds what a pod uses to its node, or takes it away again, in a cluster where somebody asks.
func (s *Snapshot) load(n *nodeState, p *podState, sign int64) {
	if !s.loaded {
		return
	}
	if sign > 0 {
		p.use = s.useOf(p.pod, p.demand)
	}
	n.load.cpu += sign * p.use.cpu
	n.load.memory += sign * p.use.memory
}

// measure reads all pods' use anew.
func (s *Snapshot) measure() {
	if s.loaded = s.profiles.measures(); !s.loaded {
		return
	}
	for _, n := range s.nodes {
		n.load = score{}
		for _, p := range n.pods {
			s.load(n, p, 1)
		}
	}
}

// loadScore is MeasuredLoad's: the mean of what is idle of the node's processors and memory, in per cent, with the pod there.
func (n *nodeState) loadScore(d *demand) int64 {
	idle := func(used, offers int64) int64 {
		if used >= offers {
			return 0
		}
		return (offers - used) * maxScore / offers
	}
	return (idle(n.load.cpu+d.score.cpu, n.allocatable.cpu) + idle(n.load.memory+d.score.memory, n.allocatable.memory)) / 2
}
