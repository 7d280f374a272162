package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
)

// Explain returns a verdict on a pod for every node of src, in the order of names: the first rule that refuses it there, or the
// score by the pod's profile. A pod that is bound already is looked at as if it were not.
func Explain(src Source, pod *corev1.Pod) []Verdict {
	if pod.Spec.NodeName != "" {
		free := *pod
		free.Spec.NodeName = ""
		pod = &free
	}
	profiles, _ := ReadProfiles(src) // what cannot be read is told where it is used
	return newSnapshot(src, profiles, pod.UID, nil).Verdicts(pod)
}

// Without tells where the pods of a node would go if it went: those that a controller makes anew, daemons left out. The snapshot is
// as if they had gone.
func (s *Snapshot) Without(node string) []Decision {
	at, ok := s.byName[node]
	if !ok {
		return nil
	}
	n := s.nodes[at]
	cordoned := *n.node
	cordoned.Spec.Unschedulable = true
	n.node = &cordoned
	clear(s.classes)
	var pods []*corev1.Pod
	for _, q := range slices.Clone(n.pods) {
		if q.owner == "" || PinnedTo(&q.pod.Spec) != "" || q.group.terminating {
			continue
		}
		s.take(at, q)
		p := *q.pod
		p.Spec.NodeName = ""
		// The node is cordoned for all: a daemon's toleration of that would keep the pod here.
		p.Spec.Tolerations = slices.DeleteFunc(slices.Clone(p.Spec.Tolerations), func(t corev1.Toleration) bool { return t.Key == corev1.TaintNodeUnschedulable || t.Key == "" })
		pods = append(pods, &p)
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(priorityOf(b), priorityOf(a)) })
	return s.Schedule(pods)
}

// Verdicts is what the snapshot's nodes say of a pod, in their order. The pod is not placed.
func (s *Snapshot) Verdicts(pod *corev1.Pod) []Verdict {
	c := s.classOf(pod)
	p := &podState{pod: pod, demand: c.demand, group: c.group}
	out := make([]Verdict, len(s.nodes))
	w, known := wording{}, map[string]string{}
	for i, n := range s.nodes {
		out[i].Node = n.node.Name
		if r := s.refusalOf(c, p, int32(i)); r != nil {
			out[i].Plugin, out[i].Reasons, out[i].Unresolvable = r.plugin, r.reasons, r.unresolvable
			out[i].Detail = s.detail(c, n, r, w, known)
			continue
		}
		out[i].Fits = true
	}
	if c.all != nil {
		return out
	}
	s.score(c, p, out)
	return out
}

// Preemption is what would have to go from a node for a pod.
type Preemption struct {
	Node string `json:"node"`
	// Victims are the pods that would be deleted, the most important first; none if that would not help, as Reasons tell.
	Victims []*corev1.Pod `json:"-"`
	// Violations is the number of victims that a PodDisruptionBudget protects.
	Violations int      `json:"violations,omitempty"`
	Reasons    []string `json:"reasons,omitempty"`
}

// Preemptions is what would have to go from each node that refuses the pod now, and might take it if pods of lower priority went. The
// snapshot is not changed.
func (s *Snapshot) Preemptions(pod *corev1.Pod) (out []Preemption) {
	c := s.classOf(pod)
	p := &podState{pod: pod, demand: c.demand, group: c.group}
	if c.all != nil || never(&pod.Spec) {
		return nil
	}
	for i, n := range s.nodes {
		at := int32(i)
		if r := s.refusalOf(c, p, at); r == nil || r.unresolvable {
			continue
		}
		e := s.dryRun(c, p, at)
		x := Preemption{Node: n.node.Name, Violations: e.violations}
		if e.why != nil {
			x.Reasons = e.why.reasons
		}
		for _, q := range e.victims {
			x.Victims = append(x.Victims, q.pod)
		}
		out = append(out, x)
	}
	return out
}

// score fills in the scores of the nodes that fit.
func (s *Snapshot) score(c *class, p *podState, out []Verdict) {
	var list []candidate
	if c.pinned {
		if at, ok := s.byName[PinnedTo(&p.pod.Spec)]; ok && out[at].Fits {
			c.base[at] = c.score(s, at)
			list = []candidate{{node: at, count: 1}}
			c.rate(list)
		}
	} else {
		list = s.candidates(c, p)
	}
	fits := 0
	for k := range list {
		fits += list[k].count
	}
	shares := make([]PluginScore, 0, fits*len(c.profile.Weights)) // of all nodes: one piece of memory for each took longer than to score it
	for k := range list {
		m := &list[k]
		nodes := []int32{m.node}
		if b := c.of[m.node]; b != nil && !c.pinned {
			nodes = b.heap
		}
		for _, at := range nodes {
			v := &out[at]
			v.Score = m.total - c.base[m.node] + c.base[at]
			before := len(shares)
			shares = s.scoresOf(shares, c, m, at)
			v.Scores = shares[before:len(shares):len(shares)]
		}
	}
}

// scoresOf appends the shares of a score.
func (s *Snapshot) scoresOf(out []PluginScore, c *class, m *candidate, at int32) []PluginScore {
	p, n := c.profile, s.nodes[at]
	add := func(name string, score int64) {
		if w := p.Weights[name]; w > 0 {
			out = append(out, PluginScore{name, score, w})
		}
	}
	add(taintToleration, m.weighted[0])
	add(nodeAffinity, m.weighted[1])
	add(nodeResourcesFit, p.fitScore(n, c.demand))
	add(podTopologySpread, m.weighted[2])
	add(interPodAffinity, m.weighted[3])
	add(balancedAllocation, p.balanced(n, c.demand))
	add(imageLocality, c.image[at])
	add(networkDistance, m.weighted[4])
	add(measuredLoad, n.loadScore(c.demand))
	for _, e := range p.own {
		add(e.Name, c.foreignScore(e, n.node))
	}
	return out
}

// wording keeps how a shortage is told: many nodes have the same.
type wording map[shortage]string

func (w wording) of(l shortage) string {
	text, ok := w[l]
	if !ok {
		text = l.text()
		w[l] = text
	}
	return text
}

func (l shortage) text() string {
	text := fmt.Sprintf("%s: asks %s, free %s of %s; ", l.resource, amount(l.resource, l.asked), amount(l.resource, l.offers-l.used), amount(l.resource, l.offers))
	if l.asked > l.offers {
		return text + "the node is too small even if empty"
	}
	return text + amount(l.resource, l.asked-(l.offers-l.used)) + " less would fit"
}

// detail names the numbers behind a refusal, and what would have to change.
func (s *Snapshot) detail(c *class, n *nodeState, r *refusal, w wording, known map[string]string) (out []string) {
	switch r.plugin {
	case taintToleration:
		t := untolerated(n.node, &c.pod.Spec)
		return []string{fmt.Sprintf("the taint is %s; tolerate it, or remove it", t.ToString())}
	case nodeUnschedulable:
		return []string{"the node is cordoned; uncordon it"}
	case nodeResourcesFit:
		for _, l := range n.short(c.demand) {
			out = append(out, w.of(l))
		}
	case nodePorts:
		for _, p := range c.ports {
			if n.conflicts(p) {
				out = append(out, fmt.Sprintf("%s port %d of %s is taken", p.protocol, p.number, p.ip))
			}
		}
	case nodeAffinity:
		return affinityDetail(c.pod, n.node)
	case interPodAffinity:
		return s.interDetail(c, n, r, known)
	case podTopologySpread:
		return s.spreadDetail(c, n)
	}
	return out
}

// spreadDetail names the constraints that a node breaks.
func (s *Snapshot) spreadDetail(c *class, n *nodeState) (out []string) {
	at := s.byName[n.node.Name]
	for i := range c.hard {
		k := &c.hard[i]
		sl := c.slots[k.slot]
		d := sl.domain[at]
		if d < 0 {
			out = append(out, fmt.Sprintf("the node has no label %s", k.key))
			continue
		}
		lowest := sl.lowest
		if sl.known < k.minDomains {
			lowest = 0
		}
		if skew := sl.counts[d] + k.self - lowest; skew > k.maxSkew {
			out = append(out, fmt.Sprintf("%s=%s would have %d pods where the least has %d: skew %d, at most %d", k.key, n.node.Labels[k.key],
				sl.counts[d]+k.self, lowest, skew, k.maxSkew))
		}
	}
	return out
}

// amount writes a number of a resource as users do.
func amount(resource string, n int64) string {
	switch corev1.ResourceName(resource) {
	case corev1.ResourceCPU:
		return kresource.NewMilliQuantity(n, kresource.DecimalSI).String()
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return kresource.NewQuantity(n, kresource.BinarySI).String()
	}
	return fmt.Sprint(n)
}
