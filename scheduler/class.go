package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// class is a set of pods that every rule treats alike: one owner, the same labels as far as rules read them, the same demands.
type class struct {
	*shape
	*demand
	pod   *corev1.Pod // one of them
	begin int32       // where the order of nodes that are as good begins
	tie   []int32     // by node: its place in that order
	among int32       // the number of the pods that it is kept apart from by zone
	buckets
	heard    int      // how many of the shape's moved nodes the buckets have taken in
	searches int      // pods placed without buckets
	failure  *failure // nil until a pod finds no node
	used     int      // when, of the snapshot's uses
}

// shape is what classes share that differ in their requests, or in an owner that matters to no rule. What does not change while pods are placed is
// decided once a node; the rest is kept up to date from the snapshot's log.
type shape struct {
	model    *corev1.Pod // a pod of one of the classes
	selects  types.UID   // the owner, if the default constraints go by its selector
	profile  *Profile
	weight   pluginWeights // the profile's
	priority int32
	pinned   bool // each of the pods may be on one node only, which is not the shape's matter
	group    *group
	rules    *nodeRules
	all      *refusal // refuses every node

	static    []*refusal // by node
	taints    []int64    // by node: the PreferNoSchedule taints that the pods do not tolerate
	preferred []int64    // by node: the weight of the preferences that it meets
	image     []int64    // by node: ImageLocality's score; nil if no node has images
	foreigns  []int64    // by node: the weighted scores of the profile's extensions; nil if it has none
	storage   *storage   // nil if the pods have no volumes that matter
	zones     *topology  // nodes that are as good go by their zone; nil if zones are too many

	slots []*slot
	hard  []constraint
	soft  []constraint
	// softAll says that a node that lacks one of the soft constraints' labels is not scored.
	softAll bool
	inter   interRules
	near    []int // slots of NetworkDistance

	effects map[*group][]effect
	cursor  int     // how much of the log is taken in
	moved   []int32 // nodes that are to be looked at again, as the log told
	stale   bool
	spread  *spreadSource
	cells   *cells // nil until a class has no buckets
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
	// usual tells that resources are scored as by Kubernetes' default profile: the more of CPU and memory is left the better. Then cpu and memory are
	// their weights there.
	usual       bool
	cpu, memory int64
}

func weightsOf(p *Profile) pluginWeights {
	w := pluginWeights{fit: p.Weights[nodeResourcesFit], balanced: p.Weights[balancedAllocation], image: p.Weights[imageLocality], load: p.Weights[measuredLoad]}
	for i, name := range proportioned {
		w.proportioned[i] = p.Weights[name]
	}
	w.usual = p.Fit == LeastAllocated && cpuAndMemory(p.Resources) && cpuAndMemory(p.Balanced)
	for _, r := range p.Resources {
		switch r.Name {
		case corev1.ResourceCPU:
			w.cpu = r.Weight
		case corev1.ResourceMemory:
			w.memory = r.Weight
		}
	}
	return w
}

// cpuAndMemory tells whether a list names these two, each once.
func cpuAndMemory(list []ResourceWeight) bool {
	if len(list) != 2 {
		return false
	}
	names := [2]corev1.ResourceName{list[0].Name, list[1].Name}
	return names == [2]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} || names == [2]corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU}
}

// classOf finds the class of a pod, or makes it.
func (s *Snapshot) classOf(pod *corev1.Pod) *class {
	s.readServices(pod.Namespace)
	s.regroup()
	s.uses++
	if c := s.latest; c != nil && s.holds(c, pod) && s.current(c) {
		c.used = s.uses // most pods are like the one before
		return c
	}
	h := s.hashOf(pod)
	if i := slices.IndexFunc(s.classes[h], func(c *class) bool { return s.holds(c, pod) }); i >= 0 {
		if c := s.classes[h][i]; s.current(c) {
			c.used = s.uses
			s.latest = c
			return c
		}
		s.classes[h] = slices.Delete(s.classes[h], i, i+1)
	}
	s.latest = nil
	c := s.newClass(pod)
	c.used = s.uses
	s.fleeting = s.fleeting || c.fleeting()
	h = s.hashOf(pod) // the class may read other labels than those before
	s.classes[h] = append(s.classes[h], c)
	s.latest = c
	if s.weight += classWeight; s.weight > s.most {
		s.trim(s.most / 2)
	}
	return c
}

// current brings a class up to date, and tells whether that is possible.
func (s *Snapshot) current(c *class) bool {
	if c.stale = c.stale || !s.spreads(c); !c.stale {
		s.catchUp(c)
	}
	return !c.stale
}

// hashOf is the same for pods of one class.
func (s *Snapshot) hashOf(pod *corev1.Pod) uint64 {
	h := s.groups.keys.hash(pod.Namespace, pod.Labels) ^ hash(string(ownerOf(pod)))
	for i := range pod.Spec.Containers {
		r := pod.Spec.Containers[i].Resources.Requests
		h = mix(h ^ uint64(r.Cpu().MilliValue()) ^ uint64(r.Memory().Value())<<20)
	}
	return h
}

// holds tells whether the pod belongs to the class.
func (s *Snapshot) holds(c *class, b *corev1.Pod) bool {
	return c.pod == b || ownerOf(c.pod) == ownerOf(b) && sameRequests(&c.pod.Spec, &b.Spec) && s.shares(c.shape, c.pod, b)
}

// shares tells whether pod b belongs to a class of the shape, as a does. Extensions may look at any label, and at requests.
func (s *Snapshot) shares(sh *shape, a, b *corev1.Pod) bool {
	return sh.priority == priorityOf(b) && a.Spec.SchedulerName == b.Spec.SchedulerName && a.Namespace == b.Namespace &&
		s.groups.keys.same(a.Namespace, a.Labels, b.Labels) && (len(sh.profile.own) == 0 || maps.Equal(a.Labels, b.Labels) && sameRequests(&a.Spec, &b.Spec)) &&
		sh.pinned == sh.profile.sharesPin(b) && sameShape(&a.Spec, &b.Spec, sh.pinned)
}

// newClass makes the class of a pod.
func (s *Snapshot) newClass(pod *corev1.Pod) *class {
	c := &class{demand: s.demandOf(pod, false), pod: pod, tie: s.order()}
	c.begin = int32(mix(hash(pod.Namespace)+hash(string(c.owner))) % uint64(max(1, len(s.nodes))))
	c.among = s.matesOf(c.owner, pod.Namespace)
	p := s.profileOf(pod)
	selects := types.UID("")
	if len(pod.Spec.TopologySpreadConstraints) == 0 && len(p.defaults()) > 0 && ownedBySelector(pod) {
		selects = c.owner
	}
	h := s.groups.keys.hash(pod.Namespace, pod.Labels) ^ hash(string(selects))
	for i, sh := range s.shapes[h] {
		if sh.selects != selects || !s.shares(sh, sh.model, pod) {
			continue
		}
		if c.shape = sh; s.current(c) {
			c.heard = len(sh.moved)
			return c
		}
		s.shapes[h] = slices.Delete(s.shapes[h], i, i+1)
		break
	}
	c.shape = &shape{model: pod, selects: selects, profile: p, weight: weightsOf(p), priority: priorityOf(pod), pinned: p.sharesPin(pod), effects: map[*group][]effect{}}
	s.newShape(c)
	h = s.groups.keys.hash(pod.Namespace, pod.Labels) ^ hash(string(selects))
	s.shapes[h] = append(s.shapes[h], c.shape)
	s.weight += 2 * len(s.nodes)
	return c
}

// newShape decides for every node what does not depend on what runs there, and counts what does.
func (s *Snapshot) newShape(c *class) {
	pod := c.pod
	c.group, c.cursor = s.groups.of(pod, false), len(s.log)
	if c.rules, c.all = newNodeRules(pod, c.profile, c.pinned); c.all != nil {
		return
	}
	if c.storage, c.all = s.newStorage(pod); c.all != nil {
		return
	}
	if c.all = withoutDevices(pod); c.all != nil {
		return
	}
	c.zones = s.zones()
	c.static = make([]*refusal, len(s.nodes))
	c.taints = make([]int64, len(s.nodes))
	c.preferred = make([]int64, len(s.nodes))
	if len(s.images) > 0 {
		c.image = make([]int64, len(s.nodes))
	}
	if len(c.profile.own) > 0 {
		c.foreigns = make([]int64, len(s.nodes))
	}
	names := imageNames(&pod.Spec)
	containers := len(pod.Spec.InitContainers) + len(pod.Spec.Containers)
	for i, n := range s.nodes {
		same := c.rules.indifferent(n)
		if !same {
			c.static[i] = c.rules.refuse(n.node)
		}
		if c.static[i] == nil && len(c.profile.own) > 0 {
			c.static[i] = c.foreign(n.node)
		}
		if c.static[i] != nil {
			continue
		}
		if c.foreigns != nil {
			c.foreigns[i] = c.foreignScores(n.node)
		}
		if !same {
			c.taints[i], c.preferred[i] = shunned(n.node, pod), c.rules.prefers(n.node)
		}
		if c.image != nil {
			c.image[i] = s.imageScore(n, names, containers)
		}
	}
	s.addConstraints(c)
	s.groups.keys.readConstraints(c)
	s.regroup()
	c.group = s.groups.of(pod, false)
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

// catchUp takes in what happened since the shape, and the class, were last used.
func (s *Snapshot) catchUp(c *class) {
	if c.all != nil {
		c.cursor = len(s.log)
		c.stale = c.storage != nil || c.all.plugin != nodeAffinity
		return
	}
	from := len(c.moved)
	for ; c.cursor < len(s.log); c.cursor++ {
		ch := s.log[c.cursor]
		if ch.group != nil {
			for _, e := range c.effectsOf(s, ch.group) {
				sl := c.slots[e.slot]
				if d := sl.count(ch.node, e.delta*ch.sign); d >= 0 && sl.wide {
					c.moved = append(c.moved, sl.members[d]...)
				}
			}
			if c.stale {
				return
			}
		}
		c.moved = append(c.moved, ch.node)
	}
	if c.cells != nil {
		for _, at := range c.moved[from:] {
			c.rekey(at)
		}
	}
	if !c.filled {
		return
	}
	for ; c.heard < len(c.moved); c.heard++ {
		c.touch(c.moved[c.heard])
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
		c.spread = &spreadSource{text: selector.String(), owner: owner, round: s.round(), checked: s.round()}
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

// ownedBySelector tells whether the owner of a pod is of a kind whose pods belong together.
func ownedBySelector(pod *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(pod)
	return ref != nil && (ownerResource[ref.Kind] != "" || ref.Kind == replicationController)
}

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
