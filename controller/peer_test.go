package controller

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	kcontroller "k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/deployment/util"
	"pgregory.net/rapid"
)

// The outside judge: the arithmetic of Kubernetes' own controllers, from the version whose validation we use.

func drawRollout(t *rapid.T) (*appsv1.Deployment, []*appsv1.ReplicaSet) {
	amount := func(name string) *intstr.IntOrString {
		v := intstr.FromInt(rapid.IntRange(0, 12).Draw(t, name))
		if rapid.Bool().Draw(t, name+" in percent") {
			v = intstr.FromString(strconv.Itoa(rapid.IntRange(0, 100).Draw(t, name)) + "%")
		}
		return &v
	}
	n := rapid.Int32Range(0, 40).Draw(t, "replicas")
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &n, Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: amount("surge"), MaxUnavailable: amount("unavailable")}}}}
	if rapid.IntRange(0, 4).Draw(t, "strategy") == 0 {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	d.Status.Replicas = rapid.Int32Range(0, 50).Draw(t, "status")
	var sets []*appsv1.ReplicaSet
	for i := range rapid.IntRange(1, 4).Draw(t, "sets") {
		size := rapid.Int32Range(0, 30).Draw(t, "size")
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("rs%d", i), UID: types.UID(fmt.Sprint(i)), Annotations: map[string]string{}},
			Spec: appsv1.ReplicaSetSpec{Replicas: &size}}
		if rapid.Bool().Draw(t, "annotated") {
			rs.Annotations[annotationMax] = strconv.Itoa(rapid.IntRange(0, 60).Draw(t, "max"))
		}
		sets = append(sets, rs)
	}
	return d, sets
}

func TestRolloutArithmeticIsKubernetes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d, sets := drawRollout(rt)
		if got, want := maxSurge(d), util.MaxSurge(*d); got != want {
			rt.Fatalf("maxSurge %d, Kubernetes %d", got, want)
		}
		if got, want := maxUnavailable(d), util.MaxUnavailable(*d); got != want {
			rt.Fatalf("maxUnavailable %d, Kubernetes %d", got, want)
		}
		fresh := sets[len(sets)-1]
		r := &rollout{d: d, sets: sets, fresh: fresh}
		want, err := util.NewRSNewReplicas(d, sets, fresh)
		if err != nil {
			rt.Fatal(err)
		}
		// Kubernetes asks only while the new set is not larger than wanted; a larger one is shrunk to the wanted size before.
		if replicas(fresh) <= *d.Spec.Replicas {
			if got := r.freshTarget(); got != want {
				rt.Fatalf("the new set's size %d, Kubernetes %d", got, want)
			}
		}
		for _, rs := range sets {
			add := rapid.Int32Range(-30, 30).Draw(rt, "add")
			theirs := util.GetReplicaSetProportion(klog.Background(), rs, *d, add, 0)
			ours := r.share(rs)
			if add > 0 {
				ours = min(ours, add)
			} else {
				ours = max(ours, add)
			}
			if replicas(rs) == 0 || add == 0 {
				ours = 0
			}
			if ours != theirs {
				rt.Fatalf("the share of a set of %d with annotation %q is %d, Kubernetes %d", replicas(rs), rs.Annotations[annotationMax], ours, theirs)
			}
		}
	})
}

func drawPod(t *rapid.T, i int, now time.Time) *corev1.Pod {
	ago := func(name string) metav1.Time {
		return metav1.NewTime(now.Add(-time.Duration(rapid.SampledFrom([]int{0, 1, 2, 3, 60, 61, 3600, 86400}).Draw(t, name)) * time.Second))
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i), UID: types.UID(fmt.Sprintf("%02d", i)), CreationTimestamp: ago("created"), Annotations: map[string]string{}}}
	p.Spec.NodeName = rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "node")
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodPending, corev1.PodUnknown, corev1.PodRunning}).Draw(t, "phase")
	if rapid.Bool().Draw(t, "ready") {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: ago("ready since")}}
	}
	if rapid.Bool().Draw(t, "cost") {
		p.Annotations[corev1.PodDeletionCost] = strconv.Itoa(rapid.IntRange(-2, 2).Draw(t, "cost"))
	}
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []corev1.Container{{Name: "init"}, {Name: "sidecar", RestartPolicy: &always}}
	for _, c := range p.Spec.InitContainers {
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, corev1.ContainerStatus{Name: c.Name, RestartCount: rapid.Int32Range(0, 2).Draw(t, c.Name)})
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: rapid.Int32Range(0, 2).Draw(t, "restarts")}}
	return p
}

// TestDeletionOrderIsKubernetes compares pairs: over three pods Kubernetes' order is none (it is not transitive where ages are of one
// order of magnitude), and its sort not stable.
func TestDeletionOrderIsKubernetes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		a, b := drawPod(rt, 1, now), drawPod(rt, 2, now)
		if rapid.Bool().Draw(rt, "swap UIDs") {
			a.UID, b.UID = b.UID, a.UID
		}
		related := map[string]int{"n1": rapid.IntRange(0, 2).Draw(rt, "on n1"), "n2": rapid.IntRange(0, 2).Draw(rt, "on n2")}
		theirs := kcontroller.ActivePodsWithRanks{Pods: []*corev1.Pod{a, b}, Rank: []int{related[a.Spec.NodeName], related[b.Spec.NodeName]}, Now: metav1.NewTime(now)}
		first := rankForDeletion([]*corev1.Pod{a, b}, related, now)[0]
		if theirs.Less(0, 1) && first != a || theirs.Less(1, 0) && first != b {
			rt.Fatalf("we take %s first; Kubernetes does not\n%+v\n%+v", first.Name, a, b)
		}
	})
}

func TestTemplateEqualityIsKubernetes(t *testing.T) {
	a := &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}}}
	b := a.DeepCopy()
	b.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = "hash"
	c := b.DeepCopy()
	c.Spec.Containers = []corev1.Container{{Name: "c"}}
	d := a.DeepCopy()
	d.Annotations = map[string]string{}
	for i, p := range [][2]*corev1.PodTemplateSpec{{a, a}, {a, b}, {b, c}, {a, c}, {a, d}} {
		if got, want := sameTemplate(p[0], p[1]), util.EqualIgnoreHash(p[0], p[1]); got != want {
			t.Errorf("pair %d: %v, Kubernetes %v", i, got, want)
		}
	}
	if b.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == "" {
		t.Error("comparing changed a template")
	}
}
