package node_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// TestSummary: the agent tells what the machine, its disk, a pod and its containers use, as a kubelet's /stats/summary.
func TestSummary(t *testing.T) {
	l := newLab(t)
	p := pod("web", container("web", "serve", "8080"), container("side", "sleep"))
	l.server.Put(p)
	l.ready("web")
	var s *statsapi.Summary
	l.eventually("both containers are measured", func() bool {
		var err error
		s, err = l.agent.Summary(t.Context())
		return err == nil && len(s.Pods) == 1 && len(s.Pods[0].Containers) == 2 && *s.Pods[0].Containers[1].Memory.WorkingSetBytes > 0
	})
	n := s.Node
	if n.NodeName != "n1" || n.StartTime.IsZero() || *n.CPU.UsageCoreNanoSeconds == 0 || *n.Memory.WorkingSetBytes == 0 || *n.Memory.UsageBytes < *n.Memory.WorkingSetBytes || *n.Memory.AvailableBytes == 0 ||
		*n.Fs.CapacityBytes != *n.Fs.UsedBytes+*n.Fs.AvailableBytes {
		t.Errorf("the node: %+v", n)
	}
	got := s.Pods[0]
	sum := func(list []statsapi.ContainerStats, of func(statsapi.ContainerStats) *uint64) (n uint64) {
		for _, c := range list {
			n += *of(c)
		}
		return n
	}
	if got.PodRef != (statsapi.PodReference{Namespace: "default", Name: "web", UID: "uid-web"}) || got.Containers[0].Name != "side" || got.Containers[1].Name != "web" || got.Containers[0].StartTime.IsZero() ||
		*got.CPU.UsageCoreNanoSeconds != sum(got.Containers, func(c statsapi.ContainerStats) *uint64 { return c.CPU.UsageCoreNanoSeconds }) ||
		*got.Memory.WorkingSetBytes != sum(got.Containers, func(c statsapi.ContainerStats) *uint64 { return c.Memory.WorkingSetBytes }) || got.ProcessStats == nil {
		t.Errorf("the pod: %+v", got)
	}
	if o := l.server.Pod("default", "web"); o.Status.Phase != corev1.PodRunning {
		t.Errorf("the pod is %s", o.Status.Phase)
	}
}
