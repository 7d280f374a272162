package usage

import (
	"hash/fnv"
	"slices"

	"reconcile/object"
)

// lookAgain is in which round after one look at a pod the next one is, a minute later.
const lookAgain = 4

// finds remembers which metrics that some pod of a namespace has (object.PodQuery.Perhaps) a pod was found to have. Others it is not asked for, but every
// lookAgain rounds, and not at all if nothing else is asked of it.
type finds struct {
	round     int
	was, pods map[object.Key]*find
}

// find is of one pod.
type find struct {
	has  []object.MetricQuery
	next int // the round of the next look; one that did not answer is looked at again in the next one
	look []object.MetricQuery
}

// next begins a round. Pods that it does not choose are forgotten.
func (f *finds) next() finds {
	return finds{round: f.round + 1, was: f.pods, pods: map[object.Key]*find{}}
}

// choose is what the pods of a node are asked for in this round, without those that are asked for nothing. The queries given are not changed.
func (f *finds) choose(queries []object.PodQuery) []object.PodQuery {
	var out []object.PodQuery
	for _, q := range queries {
		if len(q.Perhaps) > 0 {
			q.Queries = f.also(object.Key{Resource: "pods", Namespace: q.Namespace, Name: q.Name}, q)
		}
		if len(q.Queries) > 0 {
			out = append(out, q)
		}
	}
	return out
}

// also is what a pod is asked for of which it is not known what it has.
func (f *finds) also(pod object.Key, q object.PodQuery) []object.MetricQuery {
	p := f.was[pod]
	if p == nil {
		p = &find{}
	}
	f.pods[pod] = p
	p.look = nil
	more := p.has
	if f.round >= p.next {
		p.look, more = q.Perhaps, q.Perhaps
	}
	out := slices.Clip(q.Queries)
	for _, m := range more {
		if !slices.Contains(q.Queries, m) && (p.look != nil || slices.Contains(q.Perhaps, m)) {
			out = append(out, m)
		}
	}
	return out
}

// note says what a pod answered.
func (f *finds) note(pod object.Key, s *object.PodSamples) {
	p := f.pods[pod]
	if p == nil || p.look == nil || s.Fault != "" {
		return
	}
	has := make(map[object.MetricQuery]bool, len(s.Samples))
	for _, x := range s.Samples {
		has[x.MetricQuery] = true
	}
	p.has = nil
	for _, m := range p.look {
		if has[m] {
			p.has = append(p.has, m)
		}
	}
	if p.next == 0 { // so that not all pods are looked at in the same rounds
		h := fnv.New32a()
		_, _ = h.Write([]byte(pod.Path()))
		p.next = f.round + 1 + int(h.Sum32()%lookAgain)
		return
	}
	p.next = f.round + lookAgain
}
