package scheduler

import (
	"iter"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// Source is the part of a view that a snapshot is built from. What it returns is shared and is not changed.
type Source interface {
	// Get returns one object: a namespace, a claim, a volume, the owner of a pod.
	Get(object.Key) (object.Object, bool)
	// List yields the objects of a resource in the order of their keys, in one namespace, or in all if namespace is empty.
	List(resource, namespace string) iter.Seq[object.Object]
	// PodsOn yields the pods whose spec.nodeName is node.
	PodsOn(node string) iter.Seq[*corev1.Pod]
	// Unbound yields the pods that have no node, and neither are terminating nor have ended.
	Unbound() iter.Seq[*corev1.Pod]
}

// Classes is the part of a view that priorities are read from.
type Classes interface {
	Get(object.Key) (object.Object, bool)
	List(resource, namespace string) iter.Seq[object.Object]
}

// Decision is what was decided for one pod. Node is empty if no node takes it; then Message says why, in Kubernetes' words
// ("0/3 nodes are available: ...").
type Decision struct {
	Pod     *corev1.Pod
	Node    string
	Message string
	// Nominated is the node on which Victims have to go before the pod fits there; empty if that would not help.
	Nominated string
	// Victims are the pods to be deleted for this one, the most important first.
	Victims []*corev1.Pod
	// Unnominate tells that the node which the pod was nominated to is of no use to it any more.
	Unnominate bool
	// Unnominated are pods of lower priority that were nominated to the node of Nominated, and are no longer.
	Unnominated []*corev1.Pod
	// Alike are pods that wait for the same and were not tried, for this one's answer is theirs, but say that they wait for something else: some of them.
	Alike []*corev1.Pod
}

// Verdict is why one node takes a pod or does not: the plugin that refused it (Kubernetes' names) and its reason, or the score.
type Verdict struct {
	Node   string `json:"node"`
	Fits   bool   `json:"fits"`
	Plugin string `json:"plugin,omitempty"`
	// Reasons are in Kubernetes' words; more than one when several resources are short.
	Reasons []string `json:"reasons,omitempty"`
	// Unresolvable tells that no deletion of other pods would help.
	Unresolvable bool `json:"unresolvable,omitempty"`
	// Score is 0 to 100 a plugin, weighted and summed; higher is better. It is zero for a node that does not fit.
	Score int64 `json:"score,omitempty"`
	// Scores are the plugins' shares of Score.
	Scores []PluginScore `json:"scores,omitempty"`
	// Detail names the numbers behind Reasons, and what would have to change.
	Detail []string `json:"detail,omitempty"`
}

// PluginScore is one plugin's score of a node, 0 to 100 before its weight.
type PluginScore struct {
	Plugin string `json:"plugin"`
	Score  int64  `json:"score"`
	Weight int64  `json:"weight"`
}

// refusal is why a plugin refuses a node. Refusals are shared and not changed.
type refusal struct {
	plugin       string
	reasons      []string
	unresolvable bool
}

// The plugins' names, as Kubernetes spells them.
const (
	nodeUnschedulable  = "NodeUnschedulable"
	nodeReady          = "NodeReady" // ours: a node that never said it is ready
	taintToleration    = "TaintToleration"
	nodeAffinity       = "NodeAffinity"
	nodePorts          = "NodePorts"
	nodeResourcesFit   = "NodeResourcesFit"
	volumeRestrictions = "VolumeRestrictions"
	nodeVolumeLimits   = "NodeVolumeLimits"
	volumeBinding      = "VolumeBinding"
	volumeZone         = "VolumeZone"
	podTopologySpread  = "PodTopologySpread"
	interPodAffinity   = "InterPodAffinity"
	balancedAllocation = "NodeResourcesBalancedAllocation"
	imageLocality      = "ImageLocality"
	measuredLoad       = "MeasuredLoad"    // ours, of no weight by default: what the node's pods were measured to use
	networkDistance    = "NetworkDistance" // ours, of no weight by default: how near the other parts of the pod's application are
)

// The refusals that always say the same, in kube-scheduler's words.
var (
	refuseUnschedulable = &refusal{nodeUnschedulable, []string{"node(s) were unschedulable"}, true}
	refuseReady         = &refusal{nodeReady, []string{"node(s) were not ready"}, true}
	refuseTaint         = &refusal{taintToleration, []string{"node(s) had untolerated taint(s)"}, true}
	refuseEnforced      = &refusal{nodeAffinity, []string{"node(s) didn't match scheduler-enforced node affinity"}, true}
	refuseAffinity      = &refusal{nodeAffinity, []string{"node(s) didn't match Pod's node affinity/selector"}, true}
	refuseElsewhere     = &refusal{nodeAffinity, []string{"node(s) didn't satisfy plugin(s) [NodeAffinity]"}, true}
	refuseConflict      = &refusal{nodeAffinity, []string{"pod affinity terms conflict"}, true}
	refusePorts         = &refusal{nodePorts, []string{"node(s) didn't have free ports for the requested pod ports"}, false}
	refuseSpread        = &refusal{podTopologySpread, []string{"node(s) didn't match pod topology spread constraints"}, false}
	refuseSpreadLabel   = &refusal{podTopologySpread, []string{"node(s) didn't match pod topology spread constraints (missing required label)"}, true}
	refusePodAffinity   = &refusal{interPodAffinity, []string{"node(s) didn't match pod affinity rules"}, true}
	refusePodAnti       = &refusal{interPodAffinity, []string{"node(s) didn't match pod anti-affinity rules"}, false}
	refuseExistingAnti  = &refusal{interPodAffinity, []string{"node(s) didn't satisfy existing pods anti-affinity rules"}, false}
)
