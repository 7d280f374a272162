package controller_test

import (
	"fmt"
	"iter"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// lookedAt counts the nodes that were looked at.
type lookedAt struct {
	*memview.State
	nodes int
}

func (l *lookedAt) counted(list iter.Seq[object.Object]) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for o := range list {
			if _, ok := o.(*corev1.Node); ok {
				l.nodes++
			}
			if !yield(o) {
				return
			}
		}
	}
}

func (l *lookedAt) List(resource, namespace string) iter.Seq[object.Object] {
	return l.counted(l.State.List(resource, namespace))
}

func (l *lookedAt) Indexed(row object.Row) iter.Seq[object.Object] {
	return l.counted(l.State.Indexed(row))
}

// TestNodesThatStayAreNotLookedAt: what looks after all nodes at once looks, when one comes, goes or changes its readiness, at those only that have
// something to be told.
func TestNodesThatStayAreNotLookedAt(t *testing.T) {
	node := func(i int, ttl, network string, ready corev1.ConditionStatus) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%03d", i)}, Spec: corev1.NodeSpec{PodCIDR: network},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
		if ttl != "" {
			n.Annotations = map[string]string{corev1.ObjectTTLAnnotationKey: ttl}
		}
		return n
	}
	const nodes = 300
	all := func() *lookedAt {
		l := &lookedAt{State: memview.New()}
		for i := range nodes {
			l.Put(node(i, "15", fmt.Sprintf("10.0.%d.0/24", i%250), corev1.ConditionTrue))
		}
		return l
	}
	for _, c := range []struct {
		what, controller string
		happens          func(*lookedAt)
		most, writes     int
	}{
		{"a node joins", "ttl", func(l *lookedAt) { l.Put(node(nodes, "", "", corev1.ConditionTrue)) }, 1, 1},
		{"a node was told something else", "ttl", func(l *lookedAt) { l.Put(node(7, "30s", "10.0.7.0/24", corev1.ConditionTrue)) }, 1, 1},
		{"a node leaves", "ttl", func(l *lookedAt) { l.Delete(object.Key{Resource: "nodes", Name: "n007"}) }, 0, 0},
		{"a node joins", "node-eviction", func(l *lookedAt) { l.Put(node(nodes, "", "", corev1.ConditionTrue)) }, 0, 0},
		{"a node leaves", "node-eviction", func(l *lookedAt) { l.Delete(object.Key{Resource: "nodes", Name: "n007"}) }, 0, 0},
		{"a node is lost", "node-eviction", func(l *lookedAt) { l.Put(node(7, "15", "10.0.7.0/24", corev1.ConditionUnknown)) }, nodes + 1, 1},
		{"a node leaves", "node-ipam", func(l *lookedAt) { l.Delete(object.Key{Resource: "nodes", Name: "n007"}) }, 0, 0},
	} {
		l := all()
		c.happens(l)
		got, err := controller.NamedController(c.controller).Reconcile(l, object.Key{Resource: "nodes"}, time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		if l.nodes > c.most || len(got.Put) != c.writes {
			t.Errorf("%s: %s looked at %d nodes and wrote %d, want at most %d and %d", c.what, c.controller, l.nodes, len(got.Put), c.most, c.writes)
		}
	}
}
