package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"reconcile/scheduler"
)

// View is a consistent state of the cluster. Its objects are not changed.
type View = scheduler.Source

// Extension is a plugin of the cluster's scheduler besides Kubernetes' own.
type Extension = scheduler.Extension

// Pod is what the scheduler would say of a pod now.
type Pod struct {
	// Waits are what the scheduler waits for before it looks at the pod, or has asked for on its behalf.
	Waits []string `json:"waits,omitempty"`
	// Nodes have the first rule that refuses the pod there, or the score, in the order of names. Empty for a pod of another scheduler, and for one that
	// has ended.
	Nodes []scheduler.Verdict `json:"nodes,omitempty"`
	// Evictions are what would have to go from nodes so that the pod fits, if it fits nowhere and nothing goes for it yet: pods of
	// lower priority.
	Evictions []Eviction `json:"evictions,omitempty"`
}

// Eviction is what would have to go from a node.
type Eviction struct {
	Node string   `json:"node"`
	Pods []string `json:"pods"`
	// Protected is how many of them a PodDisruptionBudget protects.
	Protected int `json:"protected,omitempty"`
}

// OfPod explains a pod. It takes time in the order of the cluster's pods. extensions are the scheduler's, here and below.
func OfPod(v View, p *corev1.Pod, extensions ...*Extension) Pod {
	var out Pod
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return out
	}
	profiles, fault := scheduler.ReadProfiles(v, extensions...)
	if p.Spec.NodeName == "" {
		if out.Waits = waits(v, profiles, fault, p); len(out.Waits) > 0 && unknownScheduler(profiles, p) {
			return out
		}
	}
	out.Nodes = scheduler.Explain(v, p, extensions...)
	if p.Spec.NodeName == "" && p.Status.NominatedNodeName == "" && !slices.ContainsFunc(out.Nodes, func(v scheduler.Verdict) bool { return v.Fits }) {
		out.Evictions = evictions(scheduler.NewSnapshotFor(v, profiles), p)
	}
	return out
}

func unknownScheduler(profiles scheduler.Profiles, p *corev1.Pod) bool {
	_, known := profiles.Of(p)
	return !known
}

// waits is what stands between a pod without a node and the scheduler.
func waits(v View, profiles scheduler.Profiles, fault error, p *corev1.Pod) (out []string) {
	if unknownScheduler(profiles, p) {
		name := p.Spec.SchedulerName
		for _, f := range scheduler.ProfileFaults(fault) {
			if f.Name == name {
				return append(out, f.Error())
			}
		}
		out = append(out, fmt.Sprintf("spec.schedulerName is %s, and this cluster's profiles are %s: the program of that name must bind the pod, or %s get such a profile",
			name, strings.Join(slices.Sorted(maps.Keys(profiles)), ", "), scheduler.ProfilesKey))
	}
	if len(p.Spec.SchedulingGates) > 0 {
		var names []string
		for _, g := range p.Spec.SchedulingGates {
			names = append(names, g.Name)
		}
		out = append(out, fmt.Sprintf("spec.schedulingGates has %s: the scheduler looks at the pod when the last gate is removed", strings.Join(names, ", ")))
	}
	if node := p.Status.NominatedNodeName; node != "" {
		out = append(out, nominated(v, p, node))
	}
	return out
}

// nominated tells what a pod that has a place waits for there.
func nominated(v View, p *corev1.Pod, node string) string {
	var going []string
	for q := range v.PodsOn(node) {
		if q.DeletionTimestamp != nil && priorityOf(q) < priorityOf(p) {
			going = append(going, name(q))
		}
	}
	if len(going) == 0 {
		return "it is nominated to node " + node
	}
	slices.Sort(going)
	return fmt.Sprintf("it is nominated to node %s, and waits there until these have ended: %s", node, strings.Join(going, ", "))
}

func priorityOf(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// evictions are those of each node where they help.
func evictions(s *scheduler.Snapshot, p *corev1.Pod) (out []Eviction) {
	for _, x := range s.Preemptions(p) {
		if len(x.Victims) == 0 {
			continue
		}
		e := Eviction{Node: x.Node, Protected: x.Violations}
		for _, q := range x.Victims {
			e.Pods = append(e.Pods, name(q))
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Eviction) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func name(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }
