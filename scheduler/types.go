package scheduler

import (
	"iter"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// Source is the part of a view that a snapshot is built from.
type Source interface {
	// List yields the objects of a resource in the order of their keys.
	List(resource, namespace string) iter.Seq[object.Object]
	// PodsOn yields the pods whose spec.nodeName is node.
	PodsOn(node string) iter.Seq[*corev1.Pod]
}

// Decision is what was decided for one pod. Node is empty if no node takes it; then Message says why, in Kubernetes' words
// ("0/3 nodes are available: ...").
type Decision struct {
	Pod     *corev1.Pod
	Node    string
	Message string
}

// Verdict is why one node takes a pod or does not: the plugin that refused it (Kubernetes' names) and its reason, or the score.
type Verdict struct {
	Node   string `json:"node"`
	Fits   bool   `json:"fits"`
	Plugin string `json:"plugin,omitempty"`
	// Reasons are in Kubernetes' words; more than one when several resources are short.
	Reasons []string `json:"reasons,omitempty"`
	// Score is 0 to 100 a plugin, weighted and summed; higher is better. It is zero for a node that does not fit.
	Score int64 `json:"score,omitempty"`
}
