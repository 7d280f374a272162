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
	w, known := &wording{texts: map[shortage][]string{}}, map[string]string{}
	fits := sites{byHash: map[uint64][]int32{}}
	for i, n := range s.nodes {
		v := &out[i]
		v.Node = n.name
		if r := s.refusalOf(c, p, int32(i)); r != nil {
			v.Plugin, v.Reasons, v.Unresolvable = r.plugin, r.reasons, r.unresolvable
			v.Detail = s.detail(c, n, r, w, known)
			continue
		}
		v.Fits = true
		fits.add(s, c, int32(i))
	}
	s.score(c, &fits, out)
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

// score fills in the scores of the nodes that fit. Those that the rules about other pods cannot tell apart are rated together, as where pods are placed; a
// class needs no buckets for that.
func (s *Snapshot) score(c *class, fits *sites, out []Verdict) {
	c.rate(fits.list)
	r := rater{c: c, weights: weightsByPlugin(c.profile), known: make([]map[ownScores][]PluginScore, len(fits.list)), last: make([]rated, len(fits.list))}
	for k := range fits.nodes {
		x := &fits.nodes[k]
		m, v := &fits.list[x.site], &out[x.at]
		v.Score = m.total + c.weigh(&x.own, x.at)
		v.Scores = r.of(m, x, s.nodes[x.at])
	}
}

// sites are the nodes that fit, and the candidates of an explanation, whose scores are those that their nodes share: nodes that a bucket would hold
// together, but for those of different domains that count in a soft constraint, which are counted there.
type sites struct {
	list   []candidate
	keys   [][]int64
	byHash map[uint64][]int32
	nodes  []sited
}

// sited is a node that fits.
type sited struct {
	at, site int32
	own      ownScores
}

// add takes a node in.
func (l *sites) add(s *Snapshot, c *class, at int32) {
	if l.nodes == nil {
		l.nodes = make([]sited, 0, len(s.nodes)-int(at))
	}
	k := l.of(c, at)
	l.list[k].count++
	l.nodes = append(l.nodes, sited{at, k, c.own(s, at)})
}

// of is the number of a node's site.
func (l *sites) of(c *class, at int32) int32 {
	h := c.keyOf(at)
	for i := range c.soft {
		if sl := c.slots[c.soft[i].slot]; sl.wide && sl.key != "" {
			c.key = append(c.key, int64(sl.domain[at]))
			h = mix(h ^ uint64(sl.domain[at]))
		}
	}
	for _, k := range l.byHash[h] {
		if equal(l.keys[k], c.key) {
			return k
		}
	}
	k := int32(len(l.list))
	l.list = append(l.list, candidate{node: at})
	l.keys = append(l.keys, slices.Clone(c.key))
	l.byHash[h] = append(l.byHash[h], k)
	return k
}

// rater tells the shares of scores. Nodes of a site that score the same by each plugin share them: in a large cluster most do.
type rater struct {
	c       *class
	weights [len(scored)]int64
	known   []map[ownScores][]PluginScore // by site
	last    []rated                       // by site: what was asked for last, which is mostly asked for again
}

// rated are the shares of the score of a site's nodes that score so much by themselves.
type rated struct {
	own    ownScores
	shares []PluginScore
}

// scored are the plugins that score, in the order in which they are told; extensions come after them.
var scored = [9]string{taintToleration, nodeAffinity, nodeResourcesFit, podTopologySpread, interPodAffinity, balancedAllocation, imageLocality, networkDistance, measuredLoad}

func weightsByPlugin(p *Profile) (out [len(scored)]int64) {
	for i, name := range scored {
		out[i] = p.Weights[name]
	}
	return out
}

// of are the shares of the score of a node of a site.
func (r *rater) of(m *candidate, x *sited, n *nodeState) []PluginScore {
	if len(r.c.profile.own) > 0 {
		return r.shares(m, &x.own, n)
	}
	l := &r.last[x.site]
	if l.shares != nil && l.own == x.own {
		return l.shares
	}
	list, ok := r.known[x.site][x.own]
	if !ok {
		list = r.shares(m, &x.own, n)
		if r.known[x.site] == nil {
			r.known[x.site] = map[ownScores][]PluginScore{}
		}
		r.known[x.site][x.own] = list
	}
	*l = rated{x.own, list}
	return list
}

func (r *rater) shares(m *candidate, own *ownScores, n *nodeState) []PluginScore {
	w := &m.weighted
	out := make([]PluginScore, 0, len(scored)+len(r.c.profile.own))
	for i, score := range [len(scored)]int64{w[0], w[1], own.fit, w[2], w[3], own.balanced, own.image, w[4], own.load} {
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

// wording keeps how shortages are told: many nodes have the same, and most the same as the node before.
type wording struct {
	texts map[shortage][]string
	last  []shortage
	told  []string // of last
	short []shortage
}

// of is how what a node lacks is told.
func (w *wording) of(n *nodeState, d *demand) []string {
	w.short = n.short(d, w.short[:0])
	if len(w.last) > 0 && slices.Equal(w.short, w.last) {
		return w.told
	}
	w.last, w.short = w.short, w.last
	if w.told = nil; len(w.last) == 1 {
		w.told = w.one(w.last[0])
		return w.told
	}
	for _, l := range w.last {
		w.told = append(w.told, w.one(l)...)
	}
	return w.told
}

func (w *wording) one(l shortage) []string {
	text, ok := w.texts[l]
	if !ok {
		text = []string{l.text()}
		w.texts[l] = text
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
func (s *Snapshot) detail(c *class, n *nodeState, r *refusal, w *wording, known map[string]string) (out []string) {
	switch r.plugin {
	case taintToleration:
		t := untolerated(n.node, &c.pod.Spec)
		return []string{fmt.Sprintf("the taint is %s; tolerate it, or remove it", t.ToString())}
	case nodeUnschedulable:
		return []string{"the node is cordoned; uncordon it"}
	case nodeResourcesFit:
		return w.of(n, c.demand)
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
