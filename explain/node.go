package explain

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"reconcile/scheduler"
)

// Node is what would become of a node's pods if it was drained or lost.
type Node struct {
	// Moves are the pods that a controller makes anew, in the order in which they would be placed.
	Moves []Moved `json:"moves"`
	// Gone are those that nobody makes anew, and Daemons those that belong to the node.
	Gone    []string `json:"gone,omitempty"`
	Daemons []string `json:"daemons,omitempty"`
}

// Moved is a pod that would be made anew.
type Moved struct {
	Pod string `json:"pod"`
	// Node is where; empty if it would fit nowhere now, as Message tells. If Victims went, it would fit on the node Nominated.
	Node      string   `json:"node,omitempty"`
	Message   string   `json:"message,omitempty"`
	Nominated string   `json:"nominated,omitempty"`
	Victims   []string `json:"victims,omitempty"`
	// Held is why a drain would not evict the pod now: its PodDisruptionBudget.
	Held string `json:"held,omitempty"`
	// Stays tells that the pod would not be made anew while the node is only not heard of: one of a StatefulSet may still run there.
	Stays bool `json:"stays,omitempty"`
}

// OfNode explains a node; false if there is none of the name.
func OfNode(v View, node string, extensions ...*Extension) (Node, bool) {
	out := Node{Moves: []Moved{}}
	found := false
	for o := range v.List("nodes", "") {
		found = found || o.GetName() == node
	}
	if !found {
		return out, false
	}
	for p := range v.PodsOn(node) {
		switch owner := metav1.GetControllerOfNoCopy(p); {
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.DeletionTimestamp != nil:
		case owner == nil:
			out.Gone = append(out.Gone, name(p))
		case owner.Kind == "DaemonSet":
			out.Daemons = append(out.Daemons, name(p))
		}
	}
	slices.Sort(out.Gone)
	slices.Sort(out.Daemons)
	profiles, _ := scheduler.ReadProfiles(v, extensions...) // what cannot be read is told where it is used
	b := budgets{v: v, used: map[string]int32{}}
	for _, d := range scheduler.NewSnapshotFor(v, profiles).Without(node) {
		m := Moved{Pod: name(d.Pod), Node: d.Node, Message: d.Message, Nominated: d.Nominated, Held: b.hold(d.Pod)}
		if owner := metav1.GetControllerOfNoCopy(d.Pod); owner != nil {
			m.Stays = owner.Kind == "StatefulSet"
		}
		for _, q := range d.Victims {
			m.Victims = append(m.Victims, name(q))
		}
		out.Moves = append(out.Moves, m)
	}
	return out, true
}

// budgets evicts pods one after the other, as a drain does, and counts what each eviction takes.
type budgets struct {
	v    View
	used map[string]int32
}

// hold is why the next pod is not evicted; empty if it is. A pod that is not ready is not judged otherwise: whether it counts is the budget's policy.
func (b *budgets) hold(p *corev1.Pod) string {
	var of []*policyv1.PodDisruptionBudget
	for o := range b.v.List("poddisruptionbudgets", p.Namespace) {
		x, ok := o.(*policyv1.PodDisruptionBudget)
		if !ok {
			continue
		}
		if s, err := metav1.LabelSelectorAsSelector(x.Spec.Selector); err == nil && s.Matches(labels.Set(p.Labels)) {
			of = append(of, x)
		}
	}
	switch {
	case len(of) == 0:
		return ""
	case len(of) > 1:
		return fmt.Sprintf("%d PodDisruptionBudgets select it, and then nobody evicts it", len(of))
	}
	x := of[0]
	if left := x.Status.DisruptionsAllowed - b.used[x.Namespace+"/"+x.Name]; left <= 0 {
		return fmt.Sprintf("poddisruptionbudget/%s lets %d go at a time", x.Name, x.Status.DisruptionsAllowed)
	}
	b.used[x.Namespace+"/"+x.Name]++
	return ""
}
