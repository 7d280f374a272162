package controller_test

import (
	"fmt"
	"iter"
	"reflect"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// uncounted is a state whose pods a ReplicaSet has to look at one by one: it says that one of them is to be released.
type uncounted struct{ *memview.State }

func (uncounted) Alike(string, types.UID) iter.Seq[object.Alike] {
	return func(yield func(object.Alike) bool) {
		yield(object.Alike{Example: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "another"}}}, Pods: 1})
	}
}

// walked notes that the pods were looked at one by one.
type walked struct {
	*memview.State
	walks int
}

func (w *walked) Owned(owner types.UID) iter.Seq[object.Object] {
	w.walks++
	return w.State.Owned(owner)
}

// TestReplicaSetCountsItsPods: what a ReplicaSet decides by the counts of its pods is what it decides by a look at each, and where as many are there as it
// wants it looks at none.
func TestReplicaSetCountsItsPods(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		labels := map[string]string{"app": "web"}
		replicas := rapid.Int32Range(0, 4).Draw(t, "replicas")
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "web", UID: "web"}, Spec: appsv1.ReplicaSetSpec{Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels}, MinReadySeconds: rapid.SampledFrom([]int32{0, 0, 0, 60}).Draw(t, "minReadySeconds"),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web", "version": "1"}}}}}
		rs.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
		s := memview.New(rs)
		strangers := 0
		for i := range rapid.IntRange(0, 6).Draw(t, "pods") {
			p := rapidPod(t, rs, i, now)
			if p.Labels["app"] != "web" && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
				strangers++
			}
			s.Put(p)
		}
		c := controller.NamedController("replicaset")
		counting := &walked{State: s}
		got, err := c.Reconcile(counting, object.KeyOf(rs), now)
		if err != nil {
			t.Fatal(err)
		}
		want, err := c.Reconcile(uncounted{s}, object.KeyOf(rs), now)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("by counts it decides\n%+v\nby a look at each\n%+v: %v", got, want, err)
		}
		if after := got.Put[len(got.Put)-1].(*appsv1.ReplicaSet); len(got.Delete)+strangers == 0 && rs.Spec.MinReadySeconds == 0 && counting.walks > 0 {
			t.Fatalf("it looked at each pod %d times, where %d of %d are there", counting.walks, after.Status.Replicas, replicas)
		}
	})
}

func rapidPod(t *rapid.T, rs *appsv1.ReplicaSet, i int, now time.Time) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: fmt.Sprintf("p%d", i), UID: types.UID(fmt.Sprintf("p%d", i)),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}}}
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	p.Labels = map[string]string{"app": rapid.SampledFrom([]string{"web", "web", "web", "web", "web", "other"}).Draw(t, "app")}
	if rapid.Bool().Draw(t, "labelled") {
		p.Labels["version"] = "1"
	}
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodFailed}).Draw(t, "phase")
	if rapid.IntRange(0, 5).Draw(t, "terminating") == 0 {
		p.DeletionTimestamp = &metav1.Time{Time: now}
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, "ready"),
		LastTransitionTime: metav1.NewTime(now.Add(-time.Duration(rapid.IntRange(0, 90).Draw(t, "since")) * time.Second))}}
	return p
}
