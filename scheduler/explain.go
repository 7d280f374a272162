package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
)

// Explain returns a verdict on a pod for every node of src, in the order of names: the first rule that refuses it there, or the
// score by the pod's profile, which may name extensions. A pod that is bound already is looked at as if it were not.
func Explain(src Source, pod *corev1.Pod, extensions ...*Extension) []Verdict {
	if pod.Spec.NodeName != "" {
		free := *pod
		free.Spec.NodeName = ""
		pod = &free
	}
	profiles, _ := ReadProfiles(src, extensions...) // what cannot be read is told where it is used
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
	n.node, n.open = &cordoned, false
	s.forgetClasses()
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
		out[i].Node = n.name
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
			s.full(c)
			c.base[at] = c.score(s, at)
			list = []candidate{{node: at, count: 1, own: c.base[at]}}
			c.rate(list)
		}
	} else {
		list = s.candidates(c, p)
	}
	r := rater{s: s, c: c, weights: weightsByPlugin(c.profile)}
	for k := range list {
		m := &list[k]
		r.begin(m)
		nodes := []int32{m.node}
		if b := c.of[m.node]; b != nil && !c.pinned {
			nodes = b.heap
		}
		for _, at := range nodes {
			v := &out[at]
			v.Score = m.total - c.base[m.node] + c.base[at]
			v.Scores = r.of(at)
		}
	}
}

// rater tells the shares of scores. Nodes of a candidate that score the same by each plugin share them: in a large cluster most do.
type rater struct {
	s       *Snapshot
	c       *class
	m       *candidate
	weights [len(scored)]int64
	known   map[[4]int64][]PluginScore
}

// scored are the plugins that score, in the order in which they are told; extensions come after them.
var scored = [9]string{taintToleration, nodeAffinity, nodeResourcesFit, podTopologySpread, interPodAffinity, balancedAllocation, imageLocality, networkDistance, measuredLoad}

func weightsByPlugin(p *Profile) (out [len(scored)]int64) {
	for i, name := range scored {
		out[i] = p.Weights[name]
	}
	return out
}

// begin goes on to the nodes of another candidate.
func (r *rater) begin(m *candidate) { r.m, r.known = m, map[[4]int64][]PluginScore{} }

// of are the shares of a node's score.
func (r *rater) of(at int32) []PluginScore {
	c, n := r.c, r.s.nodes[at]
	own := [4]int64{c.profile.fitScore(n, c.demand), c.profile.balanced(n, c.demand), c.imageOf(at), 0}
	if c.weight.load > 0 {
		own[3] = n.loadScore(c.demand)
	}
	if len(c.profile.own) > 0 {
		return r.shares(own, n)
	}
	list, ok := r.known[own]
	if !ok {
		list = r.shares(own, n)
		r.known[own] = list
	}
	return list
}

func (r *rater) shares(own [4]int64, n *nodeState) []PluginScore {
	w := &r.m.weighted
	out := make([]PluginScore, 0, len(scored)+len(r.c.profile.own))
	for i, score := range [len(scored)]int64{w[0], w[1], own[0], w[2], w[3], own[1], own[2], w[4], own[3]} {
		if r.weights[i] > 0 {
			out = append(out, PluginScore{scored[i], score, r.weights[i]})
		}
	}
	for _, e := range r.c.profile.own {
		if weight := r.c.profile.Weights[e.Name]; weight > 0 {
			out = append(out, PluginScore{e.Name, r.c.foreignScore(e, n.node), weight})
		}
	}
	return out
}

// wording keeps how shortages are told: many nodes have the same.
type wording map[shortage][]string

// of is how what a node lacks is told.
func (w wording) of(list []shortage) (out []string) {
	if len(list) == 1 {
		return w.one(list[0])
	}
	for _, l := range list {
		out = append(out, w.one(l)...)
	}
	return out
}

func (w wording) one(l shortage) []string {
	text, ok := w[l]
	if !ok {
		text = []string{l.text()}
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
		return w.of(n.short(c.demand))
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
