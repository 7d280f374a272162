package harness

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// FakeNodes registers n Ready nodes that no machine stands behind, each with a fresh lease, so that pods can be bound to them.
func FakeNodes(ctx context.Context, c kubernetes.Interface, n int) error {
	size := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("1000"),
	}
	for i := range n {
		name := fmt.Sprintf("fake-%03d", i)
		node, err := c.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("register node %s: %w", name, err)
		}
		now := metav1.Now()
		node.Status = corev1.NodeStatus{
			Capacity: size, Allocatable: size,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", i+1)}},
		}
		if _, err := c.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("make node %s ready: %w", name, err)
		}
		seconds, renewed := int32(40), metav1.NewMicroTime(time.Now())
		lease := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-node-lease"},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
		}
		if _, err := c.CoordinationV1().Leases("kube-node-lease").Create(ctx, lease, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("make the lease of node %s: %w", name, err)
		}
	}
	return nil
}

// Renew keeps the leases of the fake nodes fresh until ctx ends.
func Renew(ctx context.Context, c kubernetes.Interface, n int) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range n {
			leases := c.CoordinationV1().Leases("kube-node-lease")
			lease, err := leases.Get(ctx, fmt.Sprintf("fake-%03d", i), metav1.GetOptions{})
			if err != nil {
				continue
			}
			renewed := metav1.NewMicroTime(time.Now())
			lease.Spec.RenewTime = &renewed
			if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
				continue
			}
		}
	}
}
