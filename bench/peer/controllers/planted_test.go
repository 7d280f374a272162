package controllers

import (
	"slices"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// TestPlantedMistakes: a judge that never finds anything proves nothing. Mistakes that are put into what our controllers write, small ones that a look at
// the pods' number does not show, must be seen within a few courses.
func TestPlantedMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		courses func(*testing.T, player)
		lie     func(o, old object.Object)
	}{
		"a ReplicaSet is made smaller by one too many": {deploymentCourses, func(o, old object.Object) {
			rs, ok := o.(*appsv1.ReplicaSet)
			if was, there := old.(*appsv1.ReplicaSet); ok && there && *rs.Spec.Replicas < *was.Spec.Replicas {
				n := max(0, *rs.Spec.Replicas-1)
				rs.Spec.Replicas = &n
			}
		}},
		"a Deployment hides what is not available": {deploymentCourses, func(o, _ object.Object) {
			if d, ok := o.(*appsv1.Deployment); ok {
				d.Status.UnavailableReplicas = 0
			}
		}},
		"an update of a StatefulSet is over too early": {statefulSetCourses, func(o, _ object.Object) {
			if set, ok := o.(*appsv1.StatefulSet); ok && set.Status.UpdatedReplicas > 0 {
				set.Status.CurrentRevision = set.Status.UpdateRevision
			}
		}},
		"what loses one owner loses all": {collectorCourses, func(o, old object.Object) {
			if old != nil && len(o.GetOwnerReferences()) < len(old.GetOwnerReferences()) {
				o.SetOwnerReferences(nil)
			}
		}},
		"a node that is lost is not emptied": {nodeCourses, func(o, _ object.Object) {
			if n, ok := o.(*corev1.Node); ok {
				n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute })
			}
		}},
		"an owner waits for ever": {collectorCourses, func(o, old object.Object) {
			if old != nil && slices.Contains(old.GetFinalizers(), metav1.FinalizerDeleteDependents) {
				o.SetFinalizers(old.GetFinalizers())
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			found := false
			c.courses(t, func(t *testing.T, steps int, begin, step func(m *match)) {
				for seed := 0; seed < 20 && !found; seed++ {
					synctest.Test(t, func(t *testing.T) {
						b := newOurs(t)
						b.lie = c.lie
						m := &match{t: t, rng: drawn(seed, 1), a: newPeer(t), b: b, planted: &found}
						m.course(steps, begin, step)
					})
				}
			})
			if !found {
				t.Error("twenty courses do not show it")
			}
		})
	}
}
