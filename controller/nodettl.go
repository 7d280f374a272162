package controller

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// nodeTTL tells each node by an annotation for how long an agent may keep what it has read, in seconds: the longer the more nodes there are, as
// Kubernetes' controller of that name does. A node without the annotation is new, which it tells in an event. Its one key stands for all nodes; it runs
// when one comes or goes, counts them by what they were told, and looks at those only that are to be told something else.
type nodeTTL struct{}

func (nodeTTL) Name() string      { return "ttl" }
func (nodeTTL) Watches() []string { return []string{"nodes"} }

func (nodeTTL) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Old == nil || ch.New == nil || ch.New.GetAnnotations()[corev1.ObjectTTLAnnotationKey] == "" {
		emit(nodesKey)
	}
}

// ttlSteps are Kubernetes' steps: from how many nodes a cluster goes up to one, and under how many it goes down from it. They overlap, so that one node
// more or less does not change all nodes each time.
var ttlSteps = []struct{ least, most, seconds int }{{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, math.MaxInt, 300}}

// ttlStep is the step of a cluster of so many nodes that was on a step before.
func ttlStep(nodes, was int) int {
	for nodes > ttlSteps[was].most {
		was++
	}
	for nodes < ttlSteps[was].least {
		was--
	}
	return was
}

func (nodeTTL) Reconcile(v View, _ object.Key, _ time.Time) (Result, error) {
	rows := []object.Row{object.NodesTold(""), object.NodesToldElse}
	nodes, was := v.CountNodes(rows[0])+v.CountNodes(rows[1]), 0
	for i, s := range ttlSteps {
		row := object.NodesTold(strconv.Itoa(s.seconds))
		if n := v.CountNodes(row); n > 0 {
			rows, nodes, was = append(rows, row), nodes+n, i
		}
	}
	want := strconv.Itoa(ttlSteps[ttlStep(nodes, was)].seconds)
	var others []object.Object
	for _, row := range rows {
		if row != object.NodesTold(want) {
			others = slices.AppendSeq(others, v.Indexed(row))
		}
	}
	slices.SortFunc(others, func(a, b object.Object) int { return strings.Compare(a.GetName(), b.GetName()) })
	var res Result
	for _, o := range others {
		had := o.GetAnnotations()[corev1.ObjectTTLAnnotationKey]
		if o.GetDeletionTimestamp() != nil {
			continue
		}
		n := object.Copy(o).(*corev1.Node)
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, corev1.ObjectTTLAnnotationKey, want)
		res.Put = append(res.Put, n)
		if had == "" {
			res.Events = append(res.Events, nodeEvent(n, "RegisteredNode", fmt.Sprintf("Registered Node %s in Controller", n.Name)))
		}
	}
	return res, nil
}

// nodeEvent is an event about a node, in the words of Kubernetes' node controller.
func nodeEvent(n *corev1.Node, reason, message string) Event {
	return Event{Regarding: n, Type: corev1.EventTypeNormal, Reason: reason, Component: "node-controller", Message: "Node " + n.Name + " event: " + message}
}
