package node

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// refusalRest is how long the agent waits before it tells of a refusal: an owner that makes another pod at once makes one a second then, and not as
// many as the server can take.
const refusalRest = time.Second

// lookTimeout is for how long a pod's coming may wait for a look at the node as the servers have it.
const lookTimeout = 5 * time.Second

// refusal is why a pod that the agent has not seen before is not taken: the reason in its status, and the message, which the status has behind
// "Pod was rejected: ". The zero value takes it.
type refusal struct{ reason, message string }

// told is the message as a kubelet writes it into the status.
func (r refusal) told() string { return "Pod was rejected: " + r.message }

// refuse judges a pod that the agent has not seen before, as the kubelet does: a node whose disk is too full takes critical pods only, and no node
// takes what it has no room for or what may not be on it. The scheduler sees to that but for pods that name their node. A pod that ends anyway is
// none to refuse. It may ask a server for the node.
func (a *Agent) refuse(ctx context.Context, pod *corev1.Pod) refusal {
	switch {
	case pod.DeletionTimestamp != nil || ended(pod):
		return refusal{}
	case a.disk.pressed() != "" && !critical(pod):
		return refusal{reasonEvicted, "The node had condition: [DiskPressure]. "}
	}
	key := object.Key{Resource: "nodes", Name: a.cfg.NodeName}
	a.mu.Lock()
	n := a.nodes[key]
	a.mu.Unlock()
	others := a.holding()
	no := fits(pod, n, others)
	if n != nil && (no.reason == "" || no.reason == reasonPorts) {
		return no
	}
	// Pods and nodes come by two ways: a label that a pod was placed by may be known a moment after the pod.
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if o, err := a.cfg.Source.Get(ctx, key); err == nil {
		if fresh, ok := o.(*corev1.Node); ok {
			return fits(pod, fresh, others)
		}
	}
	return no
}

// holding are the pods that run here, or are about to, and have a claim to what they asked of the node.
func (a *Agent) holding() []*corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*corev1.Pod
	for _, w := range a.workers {
		if p := w.holding(); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// holding is the worker's pod as long as it has a claim to what it asked of the node; nil after. A pod that has left has none, though its object is there
// until the servers have been told: the next may come by the same transaction.
func (w *worker) holding() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.orphan || w.refused || w.left || ended(w.want) {
		return nil
	}
	return w.want
}
