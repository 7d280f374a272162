package scheduler

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// world is a cluster at one moment; it is the Source of our scheduler.
type world struct {
	*rand.Rand
	nodes   []*corev1.Node
	pods    []*corev1.Pod // on nodes
	waiting []*corev1.Pod // nominated to nodes
	others  []object.Object
	owners  []*appsv1.ReplicaSet
	serial  int
	storage bool
	byNode  map[string][]*corev1.Pod // of pods, if there are many
	roomy   bool                     // nodes have much room and few taints
}

func (w *world) List(resource, namespace string) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		if resource == "nodes" {
			for _, n := range w.nodes {
				if !yield(n) {
					return
				}
			}
		}
		for _, o := range w.others {
			if k := object.KeyOf(o); k.Resource == resource && (namespace == "" || k.Namespace == namespace) && !yield(o) {
				return
			}
		}
	}
}

func (w *world) Get(k object.Key) (object.Object, bool) {
	for o := range w.List(k.Resource, k.Namespace) {
		if o.GetName() == k.Name {
			return o, true
		}
	}
	return nil, false
}

func (w *world) PodsOn(node string) iter.Seq[*corev1.Pod] {
	if w.byNode != nil {
		return slices.Values(w.byNode[node])
	}
	return func(yield func(*corev1.Pod) bool) {
		for _, p := range w.pods {
			if p.Spec.NodeName == node && !yield(p) {
				return
			}
		}
	}
}

func (w *world) Unbound() iter.Seq[*corev1.Pod] { return slices.Values(w.waiting) }

func (w *world) one(in int) bool { return w.IntN(in) == 0 }

func (w *world) pick(from ...string) string { return from[w.IntN(len(from))] }

func some[T any](w *world, most int, draw func() T) (out []T) {
	for range w.IntN(most + 1) {
		out = append(out, draw())
	}
	return out
}

var namespaces = []string{"a", "b", "c"}

// newWorld draws a world.
func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 6)), storage: seed%8 == 0, roomy: seed%3 != 0}
	for _, name := range namespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": w.pick("x", "y")}}}
		if w.one(8) {
			continue // a namespace that nobody knows
		}
		w.others = append(w.others, ns)
	}
	for i := range 1 + w.IntN(12) {
		w.nodes = append(w.nodes, w.node("n"+strconv.Itoa(i)))
	}
	for i := range w.IntN(4) {
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "rs" + strconv.Itoa(i), Namespace: w.pick(namespaces...), UID: types.UID("rs" + strconv.Itoa(i))}}
		rs.Spec.Selector = w.selector()
		if rs.Spec.Selector == nil {
			rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "u"}}
		}
		w.others, w.owners = append(w.others, rs), append(w.owners, rs)
	}
	for i := range w.IntN(3) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s" + strconv.Itoa(i), Namespace: w.pick(namespaces...)}}
		svc.Spec.Selector = map[string]string{"app": w.pick("u", "v", "w")}
		w.others = append(w.others, svc)
	}
	if w.storage {
		w.drawStorage()
	}
	for range w.IntN(4 * len(w.nodes)) {
		p := w.pod()
		p.Spec.NodeName = w.nodes[w.IntN(len(w.nodes))].Name
		w.freePorts(p)
		if w.one(10) {
			p.DeletionTimestamp = &metav1.Time{}
		}
		w.pods = append(w.pods, p)
	}
	for i, p := range w.pods {
		// No two started at once: which of them kube-scheduler counts as more important is chance.
		p.Status.StartTime = &metav1.Time{Time: time.Unix(int64(1_000_000+w.IntN(1000)*100+i), 0)}
	}
	for i := range w.IntN(4) {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b" + strconv.Itoa(i), Namespace: w.pick(namespaces...)}}
		b.Spec.Selector = w.selector()
		b.Status.DisruptionsAllowed = int32(w.IntN(3))
		if w.one(3) && len(w.pods) > 0 {
			b.Status.DisruptedPods = map[string]metav1.Time{w.pods[w.IntN(len(w.pods))].Name: {}}
		}
		w.others = append(w.others, b)
	}
	for range max(0, w.IntN(5)-2) {
		p := w.pod()
		p.Status.NominatedNodeName = w.nodes[w.IntN(len(w.nodes))].Name
		w.waiting = append(w.waiting, p)
	}
	return w
}

// freePorts takes from a pod the ports that another of its node has: kubelets let no two have one, and kube-scheduler forgets a port with
// the first of two that goes.
func (w *world) freePorts(p *corev1.Pod) {
	type key struct {
		ip       string
		protocol corev1.Protocol
		number   int32
	}
	taken := map[key]bool{}
	own := func(q *corev1.Pod, each func(c *corev1.Container, k key)) {
		for _, list := range [][]corev1.Container{q.Spec.InitContainers, q.Spec.Containers} {
			for i := range list {
				for _, port := range list[i].Ports {
					k := key{port.HostIP, port.Protocol, port.HostPort}
					if k.ip == "" {
						k.ip = "0.0.0.0"
					}
					each(&list[i], k)
				}
			}
		}
	}
	for _, q := range w.pods {
		if q.Spec.NodeName == p.Spec.NodeName {
			own(q, func(_ *corev1.Container, k key) { taken[k] = true })
		}
	}
	own(p, func(c *corev1.Container, k key) {
		if taken[k] {
			c.Ports = nil
		}
		taken[k] = true
	})
}

var images = []string{"u:1", "v:1", "w:latest"}

func (w *world) node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": w.pick("ssd", "hdd"), "size": strconv.Itoa(w.IntN(8))}}}
	if !w.one(12) {
		n.Labels[corev1.LabelHostname] = name
	}
	if !w.one(12) {
		n.Labels[corev1.LabelTopologyZone] = w.pick("z1", "z2", "z3")
	}
	if w.one(2) {
		n.Labels["rack"] = w.pick("r1", "r2", "r3", "r4", "r5")
	}
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse(w.pick("1", "2", "4", "3500m")), "memory": resource.MustParse(w.pick("1Gi", "4Gi", "5000M")),
		"pods": resource.MustParse(w.pick("3", "8", "110"))}
	if w.roomy {
		n.Status.Allocatable["cpu"], n.Status.Allocatable["memory"], n.Status.Allocatable["pods"] = resource.MustParse(w.pick("16", "32")), resource.MustParse("64Gi"), resource.MustParse("50")
	}
	if w.one(2) {
		n.Status.Allocatable["example.com/gpu"] = resource.MustParse(w.pick("0", "1", "4"))
	}
	if w.one(2) {
		n.Status.Allocatable["ephemeral-storage"] = resource.MustParse("10Gi")
	}
	if w.one(3) {
		n.Status.Allocatable["hugepages-2Mi"] = resource.MustParse("64Mi")
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.Spec.Unschedulable = w.one(15)
	n.Spec.Taints = some(w, 2, func() corev1.Taint {
		return corev1.Taint{Key: w.pick("k", "l"), Value: w.pick("", "v", "5"), Effect: w.effect(corev1.TaintEffectPreferNoSchedule)}
	})
	if w.roomy && !w.one(8) || w.one(2) {
		n.Spec.Taints = nil
	}
	for _, image := range images {
		if w.one(2) {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{image}, SizeBytes: int64(w.IntN(2000)) << 20})
		}
	}
	return n
}

func (w *world) effect(more ...corev1.TaintEffect) corev1.TaintEffect {
	all := append(more, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute)
	return all[w.IntN(len(all))]
}

// pod draws a pod; most things are left out most of the time.
func (w *world) pod() *corev1.Pod {
	w.serial++
	name := "p" + strconv.Itoa(w.serial)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.pick(namespaces...), UID: types.UID(name)}}
	p.Labels = map[string]string{"app": w.pick("u", "v", "w"), "tier": w.pick("front", "back")}
	if w.one(6) {
		p.Labels = nil
	}
	if len(w.owners) > 0 && w.one(2) {
		rs := w.owners[w.IntN(len(w.owners))]
		yes := true
		p.Namespace = rs.Namespace
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: rs.Name, UID: rs.UID, Controller: &yes}}
	}
	for i := range 1 + w.IntN(2) {
		p.Spec.Containers = append(p.Spec.Containers, w.container("c"+strconv.Itoa(i)))
	}
	w.initContainers(p)
	if w.one(10) {
		p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("50m"), "memory": resource.MustParse("10Mi")}
	}
	if w.one(12) {
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("900m")}}
	}
	if w.one(2) {
		priority := int32(w.IntN(4)) * 10
		p.Spec.Priority = &priority
	}
	p.Spec.Tolerations = some(w, 2, w.toleration)
	if w.one(6) {
		p.Spec.NodeSelector = map[string]string{"disk": w.pick("ssd", "hdd")}
	}
	w.affinity(p)
	if w.one(3) {
		p.Spec.TopologySpreadConstraints = some(w, 2, w.constraint)
	}
	if w.storage && w.one(2) {
		w.volumes(p)
	}
	return p
}

func (w *world) initContainers(p *corev1.Pod) {
	if !w.one(6) {
		return
	}
	for i := range 1 + w.IntN(2) {
		c := w.container("i" + strconv.Itoa(i))
		if w.one(2) {
			always := corev1.ContainerRestartPolicyAlways
			c.RestartPolicy = &always
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
}

func (w *world) container(name string) corev1.Container {
	c := corev1.Container{Name: name, Image: w.pick("u:1", "v:1", "w", "none")}
	r := corev1.ResourceList{}
	if !w.one(4) {
		r["cpu"] = resource.MustParse(w.pick("100m", "300m", "700m", "1500m", "0"))
	}
	if !w.one(4) {
		r["memory"] = resource.MustParse(w.pick("64Mi", "300Mi", "1Gi", "3G"))
	}
	if w.one(8) {
		r["example.com/gpu"] = resource.MustParse(w.pick("0", "1", "2"))
	}
	if w.one(10) {
		r["ephemeral-storage"] = resource.MustParse("3Gi")
	}
	if w.one(12) {
		r["hugepages-2Mi"] = resource.MustParse("32Mi")
	}
	c.Resources.Requests = r
	if w.one(6) {
		c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: int32(80 + w.IntN(2)), HostIP: w.pick("", "0.0.0.0", "10.0.0.1", "10.0.0.2"),
			Protocol: corev1.Protocol(w.pick("TCP", "UDP"))}}
	}
	return c
}

func (w *world) toleration() corev1.Toleration {
	t := corev1.Toleration{Key: w.pick("k", "l"), Operator: corev1.TolerationOperator(w.pick("", "Equal", "Exists", "Exists", "Gt")), Value: w.pick("", "v", "4")}
	switch {
	case t.Operator == corev1.TolerationOpExists:
		t.Value = ""
		if w.one(5) {
			t.Key = ""
		}
	case t.Operator == "Gt":
		t.Value = "4"
	}
	if w.one(2) {
		t.Effect = w.effect()
	}
	if w.one(10) {
		t = corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists}
	}
	return t
}

func (w *world) affinity(p *corev1.Pod) {
	if !w.one(2) {
		return
	}
	p.Spec.Affinity = &corev1.Affinity{}
	if w.one(3) {
		a := &corev1.NodeAffinity{}
		if w.one(2) {
			a.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: append(some(w, 1, w.nodeTerm), w.nodeTerm())}
		}
		a.PreferredDuringSchedulingIgnoredDuringExecution = some(w, 2, func() corev1.PreferredSchedulingTerm {
			return corev1.PreferredSchedulingTerm{Weight: int32(1 + w.IntN(100)), Preference: w.nodeTerm()}
		})
		p.Spec.Affinity.NodeAffinity = a
	}
	weighted := func() corev1.WeightedPodAffinityTerm {
		return corev1.WeightedPodAffinityTerm{Weight: int32(1 + w.IntN(100)), PodAffinityTerm: w.podTerm()}
	}
	if w.one(3) {
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: some(w, 1, w.podTerm),
			PreferredDuringSchedulingIgnoredDuringExecution: some(w, 2, weighted)}
	}
	if w.one(3) {
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: some(w, 1, w.podTerm),
			PreferredDuringSchedulingIgnoredDuringExecution: some(w, 2, weighted)}
	}
	if w.one(6) { // two terms of which both have to hold
		if a := p.Spec.Affinity.PodAffinity; a != nil {
			a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, w.podTerm())
		}
	}
}

func (w *world) nodeTerm() corev1.NodeSelectorTerm {
	var t corev1.NodeSelectorTerm
	t.MatchExpressions = some(w, 2, func() corev1.NodeSelectorRequirement {
		switch op := corev1.NodeSelectorOperator(w.pick("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")); op {
		case "In", "NotIn":
			return corev1.NodeSelectorRequirement{Key: w.pick("disk", "rack"), Operator: op, Values: []string{w.pick("ssd", "hdd", "r1"), w.pick("r2", "r3")}}
		case "Gt", "Lt":
			return corev1.NodeSelectorRequirement{Key: w.pick("size", "disk"), Operator: op, Values: []string{strconv.Itoa(w.IntN(8))}}
		default:
			return corev1.NodeSelectorRequirement{Key: w.pick("disk", "rack", "none"), Operator: op}
		}
	})
	if w.one(6) {
		f := corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: "In", Values: []string{fmt.Sprintf("n%d", w.IntN(6))}}
		if w.one(4) {
			f.Operator = "NotIn"
		}
		t.MatchFields = append(t.MatchFields, f)
		if w.one(8) {
			t.MatchFields = append(t.MatchFields, corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: "In", Values: []string{"n2"}})
		}
	}
	return t
}

var topologies = []string{corev1.LabelHostname, corev1.LabelTopologyZone, "rack"}

func (w *world) podTerm() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: w.pick(topologies...), LabelSelector: w.selector()}
	if w.one(4) {
		t.Namespaces = []string{w.pick(namespaces...)}
	}
	if w.one(4) {
		t.NamespaceSelector = &metav1.LabelSelector{}
		if w.one(2) {
			t.NamespaceSelector.MatchLabels = map[string]string{"team": w.pick("x", "y")}
		}
		if w.one(4) {
			t.NamespaceSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "none", Operator: metav1.LabelSelectorOpDoesNotExist}}
		}
	}
	return t
}

func (w *world) selector() *metav1.LabelSelector {
	switch w.IntN(8) {
	case 0:
		return nil
	case 1:
		return &metav1.LabelSelector{}
	case 2:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"back"}}}}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": w.pick("u", "v", "w")}}
}

func (w *world) constraint() corev1.TopologySpreadConstraint {
	c := corev1.TopologySpreadConstraint{TopologyKey: w.pick(topologies...), MaxSkew: int32(1 + w.IntN(3)), LabelSelector: w.selector(),
		WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(w.pick("DoNotSchedule", "ScheduleAnyway"))}
	policy := func() *corev1.NodeInclusionPolicy {
		if w.one(2) {
			return nil
		}
		p := corev1.NodeInclusionPolicy(w.pick("Honor", "Ignore"))
		return &p
	}
	c.NodeAffinityPolicy, c.NodeTaintsPolicy = policy(), policy()
	if c.WhenUnsatisfiable == corev1.DoNotSchedule && w.one(3) {
		n := int32(1 + w.IntN(4))
		c.MinDomains = &n
	}
	if c.LabelSelector != nil && w.one(4) {
		c.MatchLabelKeys = []string{w.pick("tier", "none")}
	}
	return c
}
