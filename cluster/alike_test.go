package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/cluster"
	"reconcile/object"
)

// TestAlikeCountsAsAWalkDoes: whatever becomes of an owner's pods, the store counts them by sort as a look at each does, now and at every revision before.
func TestAlikeCountsAsAWalkDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		defer s.Close()
		random := rand.New(rand.NewPCG(7, 7))
		var revs []uint64
		for range 300 {
			name := fmt.Sprintf("p%d", random.IntN(6))
			p := pod("d", name, []string{"", "n1"}[random.IntN(2)], []string{"", "o1", "o1", "o1", "o2", "o3"}[random.IntN(6)])
			p.Labels = map[string]string{"app": []string{"x", "y"}[random.IntN(2)], "tier": "t"}
			p.Spec.Containers = []corev1.Container{{Resources: asked()[random.IntN(8)]}}
			p.Status.Phase = []corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodFailed}[random.IntN(3)]
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}[random.IntN(2)]}}
			if random.IntN(4) == 0 {
				p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1000, 0)}
			}
			if random.IntN(4) == 0 {
				remove(t, s, object.KeyOf(p))
			} else {
				store(t, s, p)
			}
			revs = append(revs, s.View().Rev())
			sameCounts(t, cluster.NewView(s.View()))
		}
		for _, rev := range revs {
			past, err := s.View().At(rev)
			if err != nil {
				t.Fatal(err)
			}
			sameCounts(t, cluster.NewView(past))
		}
	})
}

func sameCounts(t *testing.T, v *cluster.View) {
	t.Helper()
	all := naive{}
	for o := range v.List("pods", "") {
		all[object.KeyOf(o).Path()] = o
	}
	for _, owner := range []types.UID{"o1", "o2", "o3", "nobody", ""} {
		if got, want := sorts(v.Alike("d", owner)), all.alike("d", owner); got != want {
			t.Fatalf("at revision %d of %s: %s, want %s", v.Rev(), owner, got, want)
		}
	}
}
