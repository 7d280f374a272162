package scheduler

import corev1 "k8s.io/api/core/v1"

// topology is the nodes by the value of a label.
type topology struct {
	key     string
	domain  []int32 // by node: which value it has, -1 if it has not the label
	members [][]int32
	// wide says that there are so many values that nodes are better told apart by what is counted in their domain than by the domain
	// itself.
	wide bool
}

// topology returns the nodes by a label.
func (s *Snapshot) topology(key string) *topology {
	return s.topologyBy(key, func(i int32) (string, bool) { v, ok := s.nodes[i].node.Labels[key]; return v, ok })
}

// hosts returns every node that has a host's name as a domain of its own, whatever the name.
func (s *Snapshot) hosts() *topology {
	return s.topologyBy("", func(i int32) (string, bool) {
		_, ok := s.nodes[i].node.Labels[corev1.LabelHostname]
		return s.nodes[i].node.Name, ok
	})
}

func (s *Snapshot) topologyBy(name string, value func(int32) (string, bool)) *topology {
	if t, ok := s.topologies[name]; ok {
		return t
	}
	t := &topology{key: name, domain: make([]int32, len(s.nodes))}
	values := map[string]int32{}
	for i := range int32(len(s.nodes)) {
		v, ok := value(i)
		if !ok {
			t.domain[i] = -1
			continue
		}
		d, known := values[v]
		if !known {
			d = int32(len(t.members))
			values[v] = d
			t.members = append(t.members, nil)
		}
		t.domain[i] = d
		t.members[d] = append(t.members[d], i)
	}
	// With d domains, a placement costs a look at each of d buckets, or a new place for n/d nodes, which costs about ten looks.
	t.wide = len(t.members)*len(t.members) > 10*len(s.nodes)
	s.topologies[name] = t
	return t
}

// slot counts pods by the domains of a topology for one rule of a class.
type slot struct {
	*topology
	counts   []int64
	eligible []bool // the nodes whose pods count; nil for all
	total    int64  // of counts
	// For a constraint that has to hold: how many domains have a count, the lowest count, and the number of domains.
	tracked bool
	domains map[int64]int
	present []bool
	lowest  int64
	known   int
}

func newSlot(t *topology, eligible []bool) *slot {
	return &slot{topology: t, counts: make([]int64, len(t.members)), eligible: eligible}
}

// track begins to keep the lowest count of the domains that have an eligible node.
func (s *slot) track() {
	s.tracked, s.domains, s.present = true, map[int64]int{}, make([]bool, len(s.members))
	for i, d := range s.domain {
		if d >= 0 && s.eligible[i] && !s.present[d] {
			s.present[d] = true
			s.known++
			s.domains[s.counts[d]]++
			if s.known == 1 || s.counts[d] < s.lowest {
				s.lowest = s.counts[d]
			}
		}
	}
}

// add counts delta more in domain d.
func (s *slot) add(d int32, delta int64) {
	was := s.counts[d]
	s.counts[d] += delta
	s.total += delta
	if !s.tracked || !s.present[d] {
		return
	}
	if s.domains[was]--; s.domains[was] == 0 {
		delete(s.domains, was)
	}
	now := s.counts[d]
	s.domains[now]++
	s.lowest = min(s.lowest, now)
	for s.domains[s.lowest] == 0 {
		s.lowest++
	}
}

// with is the lowest count if domain d had delta more.
func (s *slot) with(d int32, delta int64) int64 {
	if delta == 0 || d < 0 || !s.present[d] {
		return s.lowest
	}
	now := s.counts[d] + delta
	if now <= s.lowest {
		return now
	}
	if s.counts[d] > s.lowest || s.domains[s.lowest] > 1 {
		return s.lowest
	}
	next := s.lowest + 1 // the only lowest domain rises
	for s.domains[next] == 0 && next < now {
		next++
	}
	return next
}
