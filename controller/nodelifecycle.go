package controller

import (
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

const (
	// nodeGrace is how long a node may be silent before it counts as lost.
	nodeGrace = 40 * time.Second
	// reasonSilent is the reason of conditions that this controller sets in a lost node's stead.
	reasonSilent = "NodeStatusUnknown"
	// reasonNodeNotReady marks the Ready condition of pods that this controller took back.
	reasonNodeNotReady = "NodeNotReady"
)

// nodeLifecycle watches over nodes: one that is silent for longer than nodeGrace becomes Unknown and tainted, its pods unready
// and in time evicted; when it is heard again all that is undone. Its input are nodes, the agents' leases in kube-node-lease
// and pods on nodes, its output conditions, taints, and deletions of pods. eviction.go has the pods' part.
type nodeLifecycle struct{}

func (nodeLifecycle) Name() string      { return "node-lifecycle" }
func (nodeLifecycle) Watches() []string { return []string{"nodes", "leases", "pods"} }

func (nodeLifecycle) Keys(v View, ch Change, emit func(object.Key)) {
	switch ch.Key.Resource {
	case "nodes":
		emit(ch.Key)
		emitPassing(ch, emit)
	case "leases":
		if ch.Key.Namespace == corev1.NamespaceNodeLease {
			emit(object.Key{Resource: "nodes", Name: ch.Key.Name})
		}
	case "pods":
		// A pod on a node with a NoExecute taint, or that is lost or not there, must be looked at, and one that goes on a node that is out of service,
		// and no other.
		p, ok := ch.New.(*corev1.Pod)
		if !ok || p.Spec.NodeName == "" {
			return
		}
		key := object.Key{Resource: "nodes", Name: p.Spec.NodeName}
		o, ok := v.Get(key)
		if !ok {
			emit(key)
			return
		}
		if n := o.(*corev1.Node); p.DeletionTimestamp == nil && (len(evicting(n)) > 0 || nodeReady(n) == corev1.ConditionUnknown) || p.DeletionTimestamp != nil && outOfService(n) {
			emit(key)
		}
	}
}

func (nodeLifecycle) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	if name, what, passing := strings.Cut(key.Name, "/"); passing {
		return tellPassing(v, name, what), nil
	}
	o, ok := v.Get(key)
	if !ok {
		return forgetNode(v, key.Name, now), nil
	}
	live := o.(*corev1.Node)
	if live.DeletionTimestamp != nil {
		return Result{}, nil
	}
	node := object.Copy(live)
	var res Result
	stamp := metav1.NewTime(now.Truncate(time.Second))
	until, patience := lastHeard(v, live, now).Add(nodeGrace), leaderSince(v).Add(nodeGrace)
	switch {
	case until.After(now):
		res.Wake = until
		revive(node, stamp)
	case patience.After(now):
		res.Wake = patience // neither lost nor back: nobody listened before
	case deaf(v, now):
		res.Wake = now.Add(nodeGrace)
	default:
		silence(node, stamp)
	}
	taint(node, stamp)
	res.Put = append(res.Put, node)
	wasReady := nodeReady(live)
	if isReady := nodeReady(node); isReady != wasReady && wasReady != "" {
		res.Events = append(res.Events, Event{Regarding: live, Type: corev1.EventTypeNormal, Reason: nodeReason(isReady), Component: "node-controller",
			Message: "Node " + key.Name + " status is now: " + nodeReason(isReady)})
	}
	tendPods(v, node, now, &res)
	return res, nil
}

func nodeReason(s corev1.ConditionStatus) string {
	if s == corev1.ConditionTrue {
		return "NodeReady"
	}
	return "NodeNotReady"
}

// lastHeard is when the node last gave a sign: its lease, its last report, its creation. A report from the future, by a clock that is
// wrong, is none.
func lastHeard(v View, node *corev1.Node, now time.Time) time.Time {
	last := node.CreationTimestamp.Time
	note := func(t time.Time) {
		if t.After(last) && !t.After(now) {
			last = t
		}
	}
	if o, ok := v.Get(object.Key{Resource: "leases", Namespace: corev1.NamespaceNodeLease, Name: node.Name}); ok {
		if l := o.(*coordinationv1.Lease); l.Spec.RenewTime != nil {
			note(l.Spec.RenewTime.Time)
		}
	}
	if c := nodeCondition(node, corev1.NodeReady); c != nil {
		note(c.LastHeartbeatTime.Time)
	}
	return last
}

// leaderSince is the beginning of the leader's term, before which nobody listened.
func leaderSince(v View) time.Time {
	if o, ok := v.Get(object.Key{Resource: "leases", Namespace: metav1.NamespaceSystem, Name: LeaderLease}); ok {
		if l := o.(*coordinationv1.Lease); l.Spec.AcquireTime != nil {
			return l.Spec.AcquireTime.Time
		}
	}
	return time.Time{}
}

// deaf tells whether no server has renewed its lease for long: then the whole control plane was away and has only now come back,
// and a node's silence means nothing until a server has listened for a while. A cluster whose servers keep no leases is never deaf.
func deaf(v View, now time.Time) bool {
	known := false
	for o := range v.List("leases", metav1.NamespaceSystem) {
		l := o.(*coordinationv1.Lease)
		if !strings.HasPrefix(l.Name, ServerLeasePrefix) {
			continue
		}
		known = true
		if freshUntil(l).After(now) {
			return false
		}
	}
	return known
}

func nodeCondition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// nodeReady is the status of the Ready condition, empty if there is none.
func nodeReady(n *corev1.Node) corev1.ConditionStatus {
	if c := nodeCondition(n, corev1.NodeReady); c != nil {
		return c.Status
	}
	return ""
}

// silence says of a lost node that nothing is known of it.
func silence(n *corev1.Node, now metav1.Time) {
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		c := nodeCondition(n, t)
		switch {
		case c == nil && t == corev1.NodeReady:
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: t, Status: corev1.ConditionUnknown,
				Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.", LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: now})
		case c != nil && c.Status != corev1.ConditionUnknown:
			c.Status, c.Reason, c.Message, c.LastTransitionTime = corev1.ConditionUnknown, reasonSilent, "Kubelet stopped posting node status.", now
		}
	}
}

// revive takes back what silence said: the agent lives, and all counts as well until it reports anew, which it does each minute while
// something is not.
func revive(n *corev1.Node, now metav1.Time) {
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		if c.Status != corev1.ConditionUnknown || c.Reason != reasonSilent {
			continue
		}
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "KubeletHeardAgain", "the node renews its lease again"
		if c.Type == corev1.NodeReady {
			c.Status = corev1.ConditionTrue
		}
		c.LastTransitionTime = now
	}
}

// taint makes the node's taints follow its conditions and spec.unschedulable, as Kubernetes does. Whether a node that is not ready is to be
// emptied says nodeEviction; here such a taint only follows the condition, or goes. One that takes another's place keeps its time: the pods that bear it
// for a while are counted on. A NoExecute taint that came without its time gets it.
func taint(n *corev1.Node, now metav1.Time) {
	ready := nodeReady(n)
	unknown := ready == corev1.ConditionUnknown
	notReady := ready != corev1.ConditionTrue && !unknown
	setTaint(n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule, unknown, now)
	setTaint(n, corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule, notReady, now)
	told, since := emptied(n), now
	if told != nil && told.TimeAdded != nil {
		since = *told.TimeAdded
	}
	setTaint(n, corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute, unknown && told != nil, since)
	setTaint(n, corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute, notReady && told != nil, since)
	for _, x := range []struct {
		condition corev1.NodeConditionType
		key       string
	}{
		{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure}, {corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure},
		{corev1.NodePIDPressure, corev1.TaintNodePIDPressure}, {corev1.NodeNetworkUnavailable, corev1.TaintNodeNetworkUnavailable},
	} {
		c := nodeCondition(n, x.condition)
		setTaint(n, x.key, corev1.TaintEffectNoSchedule, c != nil && c.Status == corev1.ConditionTrue, now)
	}
	setTaint(n, corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule, n.Spec.Unschedulable, now)
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; t.Effect == corev1.TaintEffectNoExecute && t.TimeAdded == nil {
			t.TimeAdded = &now
		}
	}
}

func setTaint(n *corev1.Node, key string, effect corev1.TaintEffect, want bool, now metav1.Time) {
	i := slices.IndexFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key && t.Effect == effect })
	switch {
	case want && i < 0:
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect, TimeAdded: &now})
	case !want && i >= 0:
		n.Spec.Taints = slices.Delete(n.Spec.Taints, i, i+1)
	}
}

// outOfService tells whether somebody has said that a node which is not ready is switched off: then nobody will stop its pods.
func outOfService(n *corev1.Node) bool {
	return nodeReady(n) != corev1.ConditionTrue && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}
