package clients

import (
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
)

// TestApply lets two managers apply to the same objects.
func TestApply(t *testing.T) {
	t.Parallel()
	ns, ctx, c := namespace(t), t.Context(), clientset(t)
	maps := c.CoreV1().ConfigMaps(ns)
	by := func(manager string) metav1.ApplyOptions { return metav1.ApplyOptions{FieldManager: manager} }
	_, err := maps.Apply(ctx, corev1ac.ConfigMap("c", ns).WithData(map[string]string{"a": "1", "both": "1"}), by("one"))
	must(t, err)
	_, err = maps.Apply(ctx, corev1ac.ConfigMap("c", ns).WithData(map[string]string{"b": "2", "both": "1"}), by("two"))
	must(t, err)

	_, err = maps.Apply(ctx, corev1ac.ConfigMap("c", ns).WithData(map[string]string{"b": "2", "both": "2"}), by("two"))
	var st *apierrors.StatusError
	if !apierrors.IsConflict(err) || !errors.As(err, &st) || len(st.ErrStatus.Details.Causes) != 1 || st.ErrStatus.Details.Causes[0].Field != ".data.both" ||
		!strings.Contains(st.ErrStatus.Details.Causes[0].Message, `conflict with "one"`) {
		t.Errorf("a conflict: %v", err)
	}
	forced := by("two")
	forced.Force = true
	got, err := maps.Apply(ctx, corev1ac.ConfigMap("c", ns).WithData(map[string]string{"b": "2", "both": "2"}), forced)
	must(t, err)
	if got.Data["a"] != "1" || got.Data["both"] != "2" {
		t.Errorf("after force: %v", got.Data)
	}
	own, err := corev1ac.ExtractConfigMap(got, "one")
	must(t, err)
	if len(own.Data) != 1 || own.Data["a"] != "1" {
		t.Errorf("what is left of one's: %v", own.Data)
	}
	// What a manager leaves out goes, unless another has it too.
	got, err = maps.Apply(ctx, corev1ac.ConfigMap("c", ns).WithData(map[string]string{"both": "2"}), by("two"))
	must(t, err)
	if _, ok := got.Data["b"]; ok || got.Data["a"] != "1" {
		t.Errorf("after leaving out: %v", got.Data)
	}

	deployments := c.AppsV1().Deployments(ns)
	labels := map[string]string{"app": "web"}
	web := func(replicas int32) *appsv1ac.DeploymentApplyConfiguration {
		return appsv1ac.Deployment("web", ns).WithSpec(appsv1ac.DeploymentSpec().WithReplicas(replicas).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(corev1ac.PodTemplateSpec().WithLabels(labels).WithSpec(corev1ac.PodSpec().WithTerminationGracePeriodSeconds(1).
				WithContainers(corev1ac.Container().WithName("web").WithImage("toolbox:v1").WithArgs("sleep")))))
	}
	_, err = deployments.Apply(ctx, web(1), by("one"))
	must(t, err)
	rolledOut(t, ns, "web", 1)
	if _, err = deployments.Apply(ctx, web(2), by("two")); !apierrors.IsConflict(err) {
		t.Errorf("replicas of another: %v", err)
	}
	// The status has managers of its own.
	_, err = deployments.ApplyStatus(ctx, appsv1ac.Deployment("web", ns).WithStatus(appsv1ac.DeploymentStatus().WithConditions(
		appsv1ac.DeploymentCondition().WithType("Mine").WithStatus("True").WithReason("Test"))), by("status"))
	must(t, err)
	_, err = deployments.Apply(ctx, web(2), by("one"))
	must(t, err)
	rolledOut(t, ns, "web", 2)
	dry := by("one")
	dry.DryRun = []string{"All"}
	d, err := deployments.Apply(ctx, web(5), dry)
	must(t, err)
	if now, err := deployments.Get(ctx, "web", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 5 || *now.Spec.Replicas != 2 {
		t.Errorf("a dry run: %v and %v, %v", *d.Spec.Replicas, now, err)
	}
}
