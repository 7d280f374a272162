package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/object"
)

// class is a set of pods that every rule treats alike: one owner, the same labels, the same demands. What does not change while pods
// are placed is decided once a node; the rest is kept up to date from the snapshot's log.
type class struct {
	*demand
	pod      *corev1.Pod // one of them
	profile  *Profile
	weight   pluginWeights // the profile's
	priority int32
	seed     uint64
	pinned   bool // each of them may be on one node only, which is not the class's matter
	group    *group
	rules    *nodeRules
	all      *refusal // refuses every node

	static    []*refusal // by node
	taints    []int64    // by node: the PreferNoSchedule taints that the pods do not tolerate
	preferred []int64    // by node: the weight of the preferences that it meets
	image     []int64    // by node: ImageLocality's score
	foreigns  []int64    // by node: the weighted scores of the profile's extensions; nil if it has none
	storage   *storage   // nil if the pods have no volumes that matter

	slots []*slot
	hard  []constraint
	soft  []constraint
	// softAll says that a node that lacks one of the soft constraints' labels is not scored.
	softAll bool
	inter   interRules
	near    []int // slots of NetworkDistance

	effects map[*group][]effect
	cursor  int // how much of the log is taken in
	stale   bool
	buckets
	failure *failure // nil until a pod finds no node
	used    int      // in which round of a snapshot that is kept
	spread  *spreadSource
}

// constraint is a topology spread constraint.
type constraint struct {
	slot       int
	key        string
	maxSkew    int64
	minDomains int
	selector   labels.Selector
	self       int64 // 1 if the pods of the class count themselves
	honour     [2]bool
}

// effect is what a pod of a group adds to a slot.
type effect struct {
	slot  int
	delta int64
}

// pluginWeights are a profile's as they are used for each node: proportioned in the order of candidate.weighted.
type pluginWeights struct {
	fit, balanced, image, load int64
	proportioned               [len(proportioned)]int64
}

func weightsOf(p *Profile) pluginWeights {
	w := pluginWeights{fit: p.Weights[nodeResourcesFit], balanced: p.Weights[balancedAllocation], image: p.Weights[imageLocality], load: p.Weights[measuredLoad]}
	for i, name := range proportioned {
		w.proportioned[i] = p.Weights[name]
	}
	return w
}

// classOf finds the class of a pod, or makes it.
func (s *Snapshot) classOf(pod *corev1.Pod) *class {
	h := hashLabels(pod.Namespace, pod.Labels) ^ hash(string(ownerOf(pod)))
	list := s.classes[h]
	for i, c := range list {
		if c.is(pod) {
			if c.stale = !s.spreads(c); !c.stale {
				s.catchUp(c)
			}
			if c.stale {
				list[i] = s.newClass(pod, c.pinned)
			}
			list[i].used = s.round()
			return list[i]
		}
	}
	c := s.newClass(pod, s.profileOf(pod).sharesPin(pod))
	c.used = s.round()
	s.classes[h] = append(list, c)
	return c
}

// is tells whether the pod belongs to the class.
func (c *class) is(pod *corev1.Pod) bool {
	a, b := c.pod, pod
	if a == b {
		return true
	}
	return c.priority == priorityOf(b) && a.Spec.SchedulerName == b.Spec.SchedulerName && a.Namespace == b.Namespace && ownerOf(a) == ownerOf(b) && maps.Equal(a.Labels, b.Labels) &&
		c.pinned == c.profile.sharesPin(b) && sameDemand(&a.Spec, &b.Spec, c.pinned)
}

// newClass decides for every node what does not depend on what runs there, and counts what does.
func (s *Snapshot) newClass(pod *corev1.Pod, pinned bool) *class {
	c := &class{demand: s.demandOf(pod, false), pod: pod, priority: priorityOf(pod), pinned: pinned, group: s.groups.of(pod, false),
		effects: map[*group][]effect{}, cursor: len(s.log)}
	c.profile = s.profileOf(pod)
	c.weight = weightsOf(c.profile)
	c.seed = mix(hash(pod.Namespace) + hash(string(c.owner)))
	if c.owner == "" {
		c.seed = mix(c.seed + hashLabels(pod.Namespace, pod.Labels)) // of the class, not of the pod that happened to be its first
	}
	if c.rules, c.all = newNodeRules(pod, c.profile, pinned); c.all != nil {
		return c
	}
	if c.storage, c.all = s.newStorage(pod); c.all != nil {
		return c
	}
	if c.all = withoutDevices(pod); c.all != nil {
		return c
	}
	c.static = make([]*refusal, len(s.nodes))
	c.taints = make([]int64, len(s.nodes))
	c.preferred = make([]int64, len(s.nodes))
	c.image = make([]int64, len(s.nodes))
	if len(c.profile.own) > 0 {
		c.foreigns = make([]int64, len(s.nodes))
	}
	names := imageNames(&pod.Spec)
	containers := len(pod.Spec.InitContainers) + len(pod.Spec.Containers)
	for i, n := range s.nodes {
		if c.static[i] = c.rules.refuse(n.node); c.static[i] == nil && len(c.profile.own) > 0 {
			c.static[i] = c.foreign(n.node)
		}
		if c.static[i] != nil {
			continue
		}
		if c.foreigns != nil {
			c.foreigns[i] = c.foreignScores(n.node)
		}
		c.taints[i] = shunned(n.node, pod)
		c.preferred[i] = c.rules.prefers(n.node)
		if len(s.images) > 0 {
			c.image[i] = s.imageScore(n, names, containers)
		}
	}
	s.addConstraints(c)
	s.addInter(c)
	s.addDistance(c)
	for _, g := range s.groups.all {
		effects := c.effectsOf(s, g)
		if len(effects) == 0 {
			continue
		}
		for at, n := range g.on {
			for _, e := range effects {
				c.slots[e.slot].count(at, e.delta*n)
			}
		}
	}
	for i := range c.hard {
		c.slots[c.hard[i].slot].track()
	}
	c.fill(s)
	return c
}

// count adds delta to the domain of a node, and tells which domain that is; -1 if the node does not count.
func (s *slot) count(at int32, delta int64) int32 {
	d := s.domain[at]
	if d < 0 || s.eligible != nil && !s.eligible[at] {
		return -1
	}
	s.add(d, delta)
	return d
}

// catchUp takes in what happened since the class was last used.
func (s *Snapshot) catchUp(c *class) {
	if c.all != nil {
		c.cursor = len(s.log)
		c.stale = c.storage != nil || c.all.plugin != nodeAffinity
		return
	}
	for ; c.cursor < len(s.log); c.cursor++ {
		ch := s.log[c.cursor]
		if ch.group != nil {
			for _, e := range c.effectsOf(s, ch.group) {
				sl := c.slots[e.slot]
				if d := sl.count(ch.node, e.delta*ch.sign); d >= 0 && sl.wide {
					for _, at := range sl.members[d] {
						c.touch(at)
					}
				}
			}
			if c.stale {
				return
			}
		}
		c.touch(ch.node)
	}
	for _, at := range c.touched {
		c.dirty[at] = false
		c.place(s, at)
	}
	c.touched = c.touched[:0]
}

// effectsOf is what a pod of the group counts for, for the class.
func (c *class) effectsOf(s *Snapshot, g *group) []effect {
	if e, ok := c.effects[g]; ok {
		return e
	}
	var out []effect
	if !g.terminating && g.namespace == c.pod.Namespace {
		for _, list := range [][]constraint{c.hard, c.soft} {
			for i := range list {
				if k := &list[i]; !k.selector.Empty() && k.selector.Matches(g.labels) {
					out = append(out, effect{k.slot, 1})
				}
			}
		}
	}
	out = c.distanceEffects(g, c.interEffects(s, g, out))
	c.effects[g] = out
	return out
}

// addConstraints reads the pod's spread constraints, or the defaults.
func (s *Snapshot) addConstraints(c *class) {
	list := c.pod.Spec.TopologySpreadConstraints
	c.softAll = len(list) > 0 || !c.profile.SystemDefaults
	var selector labels.Selector
	if len(list) == 0 {
		if list = c.profile.defaults(); len(list) == 0 {
			return
		}
		owner := s.ownerSelector(c.pod)
		selector = s.defaultSelector(c.pod, owner)
		c.spread = &spreadSource{selector.String(), owner, s.round()}
		if selector.Empty() {
			return
		}
	}
	for i := range list {
		t := &list[i]
		k := constraint{key: t.TopologyKey, maxSkew: int64(t.MaxSkew), minDomains: 1, honour: [2]bool{true, false}, selector: selector}
		if k.selector == nil {
			k.selector = spreadSelector(t, c.pod.Labels)
		}
		if t.MinDomains != nil {
			k.minDomains = int(*t.MinDomains)
		}
		if p := t.NodeAffinityPolicy; p != nil {
			k.honour[0] = *p == corev1.NodeInclusionPolicyHonor
		}
		if p := t.NodeTaintsPolicy; p != nil {
			k.honour[1] = *p == corev1.NodeInclusionPolicyHonor
		}
		if k.selector.Matches(labels.Set(c.pod.Labels)) {
			k.self = 1
		}
		if t.WhenUnsatisfiable == corev1.DoNotSchedule {
			c.hard = append(c.hard, k)
		} else {
			c.soft = append(c.soft, k)
		}
	}
	for i := range c.hard {
		k := &c.hard[i]
		k.slot = c.addSlot(newSlot(s.topology(k.key), s.eligible(c, k, c.hard)))
	}
	for i := range c.soft {
		k := &c.soft[i]
		if k.key == corev1.LabelHostname {
			k.slot = c.addSlot(newSlot(s.hosts(), nil))
			continue
		}
		labelled := c.soft
		if !c.softAll {
			labelled = nil
		}
		k.slot = c.addSlot(newSlot(s.topology(k.key), s.eligible(c, k, labelled)))
	}
}

func (c *class) addSlot(sl *slot) int {
	c.slots = append(c.slots, sl)
	return len(c.slots) - 1
}

// spreadSelector is a constraint's selector with the pod's own values of matchLabelKeys.
func spreadSelector(t *corev1.TopologySpreadConstraint, own map[string]string) labels.Selector {
	out := selectorOf(t.LabelSelector)
	match := labels.Set{}
	for _, k := range t.MatchLabelKeys {
		if v, ok := own[k]; ok {
			match[k] = v
		}
	}
	if rest, selectable := out.Requirements(); len(match) > 0 && selectable {
		out = labels.SelectorFromSet(match).Add(rest...)
	}
	return out
}

// eligible are the nodes whose pods count for a constraint: those that have all labels of the list and that its policies include.
func (s *Snapshot) eligible(c *class, k *constraint, labelled []constraint) []bool {
	out := make([]bool, len(s.nodes))
	for i, n := range s.nodes {
		out[i] = (!k.honour[0] || c.rules.matches(n.node)) && (!k.honour[1] || untolerated(n.node, &c.pod.Spec) == nil)
		for j := range labelled {
			if _, ok := n.node.Labels[labelled[j].key]; !ok {
				out[i] = false
			}
		}
	}
	return out
}

// defaultSelector selects the pods that belong together with this one: those of its services and of its owner.
func (s *Snapshot) defaultSelector(pod *corev1.Pod, owner *metav1.LabelSelector) labels.Selector {
	set := labels.Set{}
	for o := range s.src.List("services", pod.Namespace) {
		svc, ok := o.(*corev1.Service)
		if ok && svc.Spec.Selector != nil && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			set = labels.Merge(set, svc.Spec.Selector)
		}
	}
	if owner == nil {
		return set.AsSelector()
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref.Kind == replicationController {
		return labels.Merge(set, owner.MatchLabels).AsSelector()
	}
	out := set.AsSelector()
	if sel, err := metav1.LabelSelectorAsSelector(owner); err == nil {
		if r, ok := sel.Requirements(); ok {
			out = out.Add(r...)
		}
	}
	return out
}

const replicationController = "ReplicationController"

// ownerSelector is that of the owner of a pod, if it is of a kind whose pods belong together; nil if not.
func (s *Snapshot) ownerSelector(pod *corev1.Pod) *metav1.LabelSelector {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return nil
	}
	get := func(resource string) object.Object {
		o, _ := s.src.Get(object.Key{Resource: resource, Namespace: pod.Namespace, Name: ref.Name})
		return o
	}
	switch ref.APIVersion + "/" + ref.Kind {
	case "v1/" + replicationController:
		if rc, ok := get("replicationcontrollers").(*corev1.ReplicationController); ok {
			return &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
		}
	case "apps/v1/ReplicaSet", "apps/v1/StatefulSet":
		return ownerSelector(get(ownerResource[ref.Kind]))
	}
	return nil
}

var ownerResource = map[string]string{"ReplicaSet": "replicasets", "StatefulSet": "statefulsets"}
