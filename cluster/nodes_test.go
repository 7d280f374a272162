package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/object"
)

// TestNodesAreCountedAsAWalkDoes: whatever becomes of nodes, in the store, in an overlay and in one above it, they are counted by what they were told as a
// look at each does, and the rows have those that are in them.
func TestNodesAreCountedAsAWalkDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		defer s.Close()
		random := rand.New(rand.NewPCG(7, 7))
		key := func() object.Key { return object.Key{Resource: "nodes", Name: fmt.Sprintf("n%d", random.IntN(6))} }
		node := func() *corev1.Node {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: key().Name}}
			if ttl := []string{"", "0", "15", "else", "0/x"}[random.IntN(5)]; ttl != "" {
				n.Annotations = map[string]string{corev1.ObjectTTLAnnotationKey: ttl}
			}
			n.Spec.PodCIDR = []string{"", "10.0.0.0/24"}[random.IntN(2)]
			if status := []corev1.ConditionStatus{"", corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}[random.IntN(4)]; status != "" {
				n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
			}
			if random.IntN(3) == 0 {
				n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}[random.IntN(2)]}}
			}
			return n
		}
		for range 200 {
			if random.IntN(4) == 0 {
				remove(t, s, key())
			} else {
				store(t, s, node())
			}
			v := cluster.NewView(s.View())
			low := cluster.NewOverlay(v)
			high := cluster.NewOverlay(low)
			for _, r := range []cluster.Reader{v, low, high} {
				if o, ok := r.(*cluster.Overlay); ok {
					o.Put(node())
					o.Put(node())
					o.Delete(key())
				}
				sameRows(t, r)
			}
		}
	})
}

func sameRows(t *testing.T, r cluster.Reader) {
	t.Helper()
	for _, row := range []object.Row{object.NodesTold(""), object.NodesTold("0"), object.NodesTold("15"), object.NodesToldElse, object.NodesWithoutNetwork, object.LostNodes} {
		var want, got []string
		for o := range r.List("nodes", "") {
			if slices.Contains(object.Rows(o), row) {
				want = append(want, o.GetName())
			}
		}
		for o := range r.Indexed(row) {
			got = append(got, o.GetName())
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s has %v, want %v", row, got, want)
		}
		if n := r.CountNodes(row); row.Counted() && n != len(want) {
			t.Fatalf("%s is said to have %d, and has %v", row, n, want)
		}
	}
}
