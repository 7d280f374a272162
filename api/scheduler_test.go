package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSchedulerOfOnesOwn: pods whose schedulerName no profile has are left alone; a program that looks for them by that name binds them through the API, once.
func TestSchedulerOfOnesOwn(t *testing.T) {
	t.Parallel()
	c := typed(t, startReal(t), true)
	ctx := t.Context()
	eventually(t, "the ServiceAccount that pods need", func() bool {
		_, err := c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	for _, name := range []string{"n1", "n2"} {
		n, err := c.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110")}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
		n.ResourceVersion = ""
		if _, err := c.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pods := c.CoreV1().Pods("default")
	for _, p := range []struct{ name, scheduler string }{{"mine", "my-scheduler"}, {"theirs", ""}} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.name}, Spec: corev1.PodSpec{SchedulerName: p.scheduler, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the pod of the default scheduler is bound", func() bool {
		p, err := pods.Get(ctx, "theirs", metav1.GetOptions{})
		return err == nil && p.Spec.NodeName != ""
	})

	waiting := metav1.ListOptions{FieldSelector: "spec.schedulerName=my-scheduler,spec.nodeName="}
	list, err := pods.List(ctx, waiting)
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "mine" || len(list.Items[0].Status.Conditions) > 0 {
		t.Fatalf("pods that wait for my-scheduler: %+v, %v", list, err)
	}
	to := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine", UID: list.Items[0].UID}, Target: corev1.ObjectReference{Kind: "Node", Name: "n2"}}
	if err := pods.Bind(ctx, to, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := pods.Get(ctx, "mine", metav1.GetOptions{})
	if err != nil || p.Spec.NodeName != "n2" || len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Type != corev1.PodScheduled || p.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("the pod that was bound: %+v, %v", p, err)
	}
	if list, err := pods.List(ctx, waiting); err != nil || len(list.Items) != 0 {
		t.Errorf("%d pods still wait, %v", len(list.Items), err)
	}
	to.Target.Name = "n1"
	if err := pods.Bind(ctx, to, metav1.CreateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a second binding: %v", err)
	}
}
