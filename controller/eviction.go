package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
	"reconcile/scheduler"
)

// evicting are a node's taints that make pods leave.
func evicting(n *corev1.Node) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			out = append(out, t)
		}
	}
	return out
}

// tendPods makes the pods of a node follow it: unready while it is lost, also those that are going, ready again when it is heard, and deleted when they
// do not tolerate its taints any longer, also those that have ended, as in Kubernetes. Where no node at all is ready, nobody is evicted: there is nowhere to go, and more likely
// it is we who are cut off.
func tendPods(v View, node *corev1.Node, now time.Time, res *Result) {
	taints := evicting(node)
	lost := nodeReady(node) == corev1.ConditionUnknown
	asked, elsewhere := false, false // looked for when the first pod is due
	off := outOfService(node)
	for p := range v.PodsOn(node.Name) {
		if off && p.DeletionTimestamp != nil {
			remove(p, now, "PodGC: node is out of service", res)
			continue
		}
		if c := followNode(p, lost, now); c != nil && !podEnded(p) {
			res.Put = append(res.Put, c)
			p = c
			if lost {
				res.Events = append(res.Events, Event{Regarding: p, Type: corev1.EventTypeWarning, Reason: reasonNodeNotReady, Message: "Node is not ready", Component: "node-controller"})
			}
		}
		if p.DeletionTimestamp != nil {
			continue
		}
		at, forever := evictAt(p, taints)
		if !forever && !at.After(now) {
			if !asked {
				asked, elsewhere = true, anyNodeReady(v, node)
			}
			if !elsewhere {
				at = now.Add(nodeGrace)
			}
		}
		switch {
		case forever:
		case !at.After(now):
			res.Put = append(res.Put, disrupted(p, now, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"))
			res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(p)})
			res.Events = append(res.Events, evictionEvent(p, "Marking for deletion"))
		case res.Wake.IsZero() || at.Before(res.Wake):
			res.Wake = at
		}
	}
}

func evictionEvent(p *corev1.Pod, what string) Event {
	return Event{Regarding: p, Type: corev1.EventTypeNormal, Reason: "TaintManagerEviction", Component: "taint-eviction-controller", Message: fmt.Sprintf("%s Pod %s/%s", what, p.Namespace, p.Name)}
}

// emitPassing emits what only the change itself shows, to be told in an event: "NODE/removed/UID" for a node that went, "NODE/untainted/TAINT,…" for one
// that has lost the last of its taints that make pods leave. No node's name has a slash.
func emitPassing(ch Change, emit func(object.Key)) {
	was, _ := ch.Old.(*corev1.Node)
	is, _ := ch.New.(*corev1.Node)
	key := ch.Key
	switch {
	case was == nil:
		return
	case is == nil:
		key.Name += "/removed/" + string(was.UID)
	case len(evicting(was)) > 0 && len(evicting(is)) == 0:
		var all []string
		for _, t := range evicting(was) {
			all = append(all, t.Key+"="+t.Value)
		}
		key.Name += "/untainted/" + strings.Join(all, ",")
	default:
		return
	}
	emit(key)
}

// tellPassing tells of a node that went, or of the pods that were to leave a node for its taints and need not any longer.
func tellPassing(v View, name, what string) Result {
	var res Result
	what, about, _ := strings.Cut(what, "/")
	if what == "removed" {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(about)}}
		res.Events = append(res.Events, nodeEvent(n, "RemovingNode", fmt.Sprintf("Removing Node %s from Controller", name)))
		return res
	}
	var taints []corev1.Taint
	for _, t := range strings.Split(about, ",") {
		key, value, _ := strings.Cut(t, "=")
		taints = append(taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{}})
	}
	for p := range v.PodsOn(name) {
		if _, forever := evictAt(p, taints); !forever && p.DeletionTimestamp == nil {
			res.Events = append(res.Events, evictionEvent(p, "Cancelling deletion of"))
		}
	}
	return res
}

func anyNodeReady(v View, changed *corev1.Node) bool {
	for o := range v.List("nodes", "") {
		n := o.(*corev1.Node)
		if n.Name == changed.Name {
			n = changed
		}
		if nodeReady(n) == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// evictAt is when a pod must leave a node with these taints: at once if it tolerates one of them not at all, else when the
// first toleration runs out, counted from when pod and taint met. forever is set if none does.
func evictAt(p *corev1.Pod, taints []corev1.Taint) (at time.Time, forever bool) {
	forever = true
	for i := range taints {
		t := &taints[i]
		seconds, endless, tolerated := tolerationOf(p, t)
		if !tolerated {
			return time.Time{}, false
		}
		if endless || t.TimeAdded == nil {
			continue
		}
		met := t.TimeAdded.Time
		if bound := boundSince(p); bound.After(met) {
			met = bound
		}
		end := met.Add(time.Duration(max(0, seconds)) * time.Second)
		if forever || end.Before(at) {
			at, forever = end, false
		}
	}
	return at, forever
}

// boundSince is when a pod got its node.
func boundSince(p *corev1.Pod) time.Time {
	if c := podCondition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	return p.CreationTimestamp.Time
}

// tolerationOf is for how long a pod bears a taint: as the first of its tolerations that matches says, as in Kubernetes.
func tolerationOf(p *corev1.Pod, t *corev1.Taint) (seconds int64, endless, tolerated bool) {
	for i := range p.Spec.Tolerations {
		tol := p.Spec.Tolerations[i : i+1]
		if !scheduler.Tolerates(tol, t) {
			continue
		}
		if s := tol[0].TolerationSeconds; s != nil {
			return *s, false, true
		}
		return 0, true, true
	}
	return 0, true, false
}

// followNode returns the pod with its Ready condition taken back because its node is lost, or given back because it is not; nil
// if nothing changes.
func followNode(p *corev1.Pod, lost bool, now time.Time) *corev1.Pod {
	ready := podCondition(p, corev1.PodReady)
	if ready == nil {
		return nil
	}
	back := ready.Status == corev1.ConditionFalse && ready.Reason == reasonNodeNotReady
	if lost && ready.Status != corev1.ConditionTrue || !lost && !back {
		return nil
	}
	c := object.Copy(p)
	ready = podCondition(c, corev1.PodReady)
	ready.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	if lost {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, reasonNodeNotReady, "node "+p.Spec.NodeName+" is not heard of"
		return c
	}
	ready.Reason, ready.Message = "", ""
	if containers := podCondition(c, corev1.ContainersReady); containers == nil || containers.Status == corev1.ConditionTrue {
		ready.Status = corev1.ConditionTrue
	}
	return c
}

// disrupted is a copy of a pod that tells why it is deleted, which its Job may ask for (podFailurePolicy).
func disrupted(p *corev1.Pod, now time.Time, reason, message string) *corev1.Pod {
	c := object.Copy(p)
	c.Status.Conditions = slices.DeleteFunc(c.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
	c.Status.Conditions = append(c.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)), Reason: reason, Message: message})
	return c
}

// forgetNode removes the pods of a node that is not there: nobody is left to stop them, nor to tell those that wait for it that they ended. A pod
// that has only just got its node, and that no agent has seen, waits, as in Kubernetes: the node may be about to join.
func forgetNode(v View, node string, now time.Time) Result {
	var res Result
	for p := range v.PodsOn(node) {
		if at := boundSince(p).Add(nodeGrace); at.After(now) && p.DeletionTimestamp == nil && p.Status.StartTime == nil {
			if res.Wake.IsZero() || at.Before(res.Wake) {
				res.Wake = at
			}
			continue
		}
		remove(p, now, "PodGC: node no longer exists", &res)
	}
	return res
}

// remove takes a pod away for good that nobody will stop.
func remove(p *corev1.Pod, now time.Time, why string, res *Result) {
	zero := int64(0)
	if !podEnded(p) && len(p.Finalizers) > 0 {
		c := disrupted(p, now, "DeletionByPodGC", why)
		c.Status.Phase = corev1.PodFailed
		res.Put = append(res.Put, c)
	}
	res.Delete = append(res.Delete, Deletion{Key: object.KeyOf(p), DeleteOptions: DeleteOptions{GracePeriodSeconds: &zero}})
}
