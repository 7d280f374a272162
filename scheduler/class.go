package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// class is a set of pods that every rule treats alike: one owner, the same demand, selector, affinity and tolerations. What
// does not change while its pods are placed is decided once a node.
type class struct {
	*demand
	static []Verdict // by node; Fits is what the rules without counters say
	least  []int64   // by node: the LeastAllocated score as things stand
	fit    []bool    // by node
	own    []int64   // by node: the owner's pods there
	shun   []int64   // by node: the PreferNoSchedule taints that the pods do not tolerate
}

func quantity(n int64, milli bool) *kresource.Quantity {
	if milli {
		return kresource.NewMilliQuantity(n, kresource.DecimalSI)
	}
	return kresource.NewQuantity(n, kresource.BinarySI)
}

// sameDemand tells whether two specifications ask the same of a node. Specifications made from one template share slices and
// maps, which is seen first.
func sameDemand(a, b *corev1.PodSpec) bool {
	return a == b ||
		equality.Semantic.DeepEqual(a.NodeSelector, b.NodeSelector) &&
			sameAffinity(a, b) &&
			slices.EqualFunc(a.Tolerations, b.Tolerations, sameToleration) &&
			equality.Semantic.DeepEqual(a.Overhead, b.Overhead) &&
			equality.Semantic.DeepEqual(a.Resources, b.Resources) &&
			sameContainers(a.Containers, b.Containers) && sameContainers(a.InitContainers, b.InitContainers)
}

// sameAffinity leaves out to which node pods are pinned: such a pod has no class, and its demand is that of all daemons of its owner.
func sameAffinity(a, b *corev1.PodSpec) bool {
	return a.Affinity == b.Affinity || PinnedTo(a) != "" && PinnedTo(b) != "" || equality.Semantic.DeepEqual(a.Affinity, b.Affinity)
}

// sameToleration leaves out for how long, which is no question of scheduling.
func sameToleration(a, b corev1.Toleration) bool {
	return a.Key == b.Key && a.Operator == b.Operator && a.Value == b.Value && a.Effect == b.Effect
}

func sameContainers(a, b []corev1.Container) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if !equality.Semantic.DeepEqual(a[i].Resources.Requests, b[i].Resources.Requests) || !equality.Semantic.DeepEqual(a[i].Ports, b[i].Ports) ||
			!equality.Semantic.DeepEqual(a[i].RestartPolicy, b[i].RestartPolicy) {
			return false
		}
	}
	return true
}

// newClass decides for every node what does not depend on what runs there.
func (s *Snapshot) newClass(pod *corev1.Pod, demands map[types.UID]*demand) *class {
	c := &class{demand: demandOf(pod, demands)}
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
	c.static = make([]Verdict, len(s.nodes))
	c.least = make([]int64, len(s.nodes))
	c.fit = make([]bool, len(s.nodes))
	c.own = make([]int64, len(s.nodes))
	c.shun = make([]int64, len(s.nodes))
	for i, n := range s.nodes {
		c.static[i] = static(n.node, pod, affinity)
		c.shun[i] = shunned(n.node, pod)
		c.update(i, n)
	}
	return c
}

// update recomputes what depends on the counters of node i.
func (c *class) update(i int, n *nodeState) {
	c.fit[i] = c.static[i].Fits && n.fits(c.demand)
	c.own[i] = n.owners[c.owner]
	if c.fit[i] {
		c.least[i] = leastAllocated(n, c.demand)
	}
}

// static applies the rules that look at the node's specification only, in kube-scheduler's order; the first that refuses tells.
func static(node *corev1.Node, pod *corev1.Pod, affinity nodeaffinity.RequiredNodeAffinity) Verdict {
	refuse := func(plugin, reason string) Verdict {
		return Verdict{Node: node.Name, Plugin: plugin, Reasons: []string{reason}}
	}
	if node.Spec.Unschedulable && !toleratesUnschedulable(pod) {
		return refuse("NodeUnschedulable", "node(s) were unschedulable")
	}
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !Tolerates(pod.Spec.Tolerations, t) {
			return refuse("TaintToleration", "node(s) had untolerated taint {"+t.Key+": "+t.Value+"}")
		}
	}
	if ok, err := affinity.Match(node); err != nil || !ok {
		return refuse("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
	}
	if !ready(node) {
		return refuse("NodeReady", "node(s) were not ready")
	}
	return Verdict{Node: node.Name, Fits: true}
}

// shunned counts the taints that would have the pod elsewhere if there is an elsewhere. As in kube-scheduler, tolerations without an
// effect and those of PreferNoSchedule count.
func shunned(node *corev1.Node, pod *corev1.Pod) (n int64) {
	for i := range node.Spec.Taints {
		if t := &node.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !Tolerates(pod.Spec.Tolerations, t) {
			n++
		}
	}
	return n
}

// ready holds pods off a node that never said that it is ready; one that stopped saying so has a taint.
func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return true
		}
	}
	return false
}

func toleratesUnschedulable(pod *corev1.Pod) bool {
	return Tolerates(pod.Spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
}

// Tolerates tells whether one of the tolerations matches the taint: an empty key with Exists matches all, an empty effect every
// effect, an empty operator means Equal.
func Tolerates(tolerations []corev1.Toleration, t *corev1.Taint) bool {
	for i := range tolerations {
		tol := &tolerations[i]
		if tol.Effect != "" && tol.Effect != t.Effect || tol.Key != "" && tol.Key != t.Key {
			continue
		}
		switch tol.Operator {
		case corev1.TolerationOpExists:
			return true
		case "", corev1.TolerationOpEqual:
			if tol.Key != "" && tol.Value == t.Value {
				return true
			}
		}
	}
	return false
}

// leastAllocated is kube-scheduler's score of the name: the free share of CPU and memory in percent, truncated, averaged.
func leastAllocated(n *nodeState, d *demand) int64 {
	free := func(used, cap int64) int64 {
		if cap <= 0 || used > cap {
			return 0
		}
		return (cap - used) * 100 / cap
	}
	return (free(n.usedScore.cpu+d.score.cpu, n.allocatable.cpu) + free(n.usedScore.memory+d.score.memory, n.allocatable.memory)) / 2
}
