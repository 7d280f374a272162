package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// onNodes are a daemon, and a set whose one pod may be on any node.
const onNodes = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: watch}
spec:
  selector: {matchLabels: {app: watch}}
  template:
    metadata: {labels: {app: watch}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: toolbox:v1, args: [sleep]}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: toolbox:v1, args: [serve, ":8080", the one db]}]
`

// TestNodesComeAndGo: a node that joins gets its daemon; one that is lost keeps its StatefulSet's pod, whose other self could still run there,
// until somebody says that it is out of service; then the pod is elsewhere at once. When the node comes back it ends what it should not run.
func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	server, node := l.machine(), l.machine()
	toolbox := map[string]string{"toolbox:v1": "./toolbox"}
	server.start("up")
	server.images(toolbox)
	readyNodes(server, 1)
	kubectl := func(args ...string) {
		t.Helper()
		server.reconcile(append([]string{"kubectl", "--kubeconfig", server.kubeconfig()}, args...)...)
	}
	kubectl("cordon", server.Name)
	r := server.repo()
	r.write(map[string]string{"on.yaml": onNodes})
	r.push("a daemon, and a set that waits for a node")

	copyKeys(t, server, node)
	node.images(toolbox)
	agentArgs := []string{"--servers", "https://" + server.ip + ":6443"}
	began := time.Now()
	node.start("agent", agentArgs...)
	ready := podOn(t, server, "app=watch", node.Name)
	// The issue asks for 5 s; the time is told and not judged, because the machine's load is in it.
	t.Logf("the daemon is ready on the new node %s after its agent was started", ready.Sub(began).Round(time.Millisecond))
	podOn(t, server, "app=db", node.Name)
	kubectl("uncordon", server.Name)

	node.kill()
	eventually(t, "the node is lost", func() error {
		n, err := server.client().CoreV1().Nodes().Get(t.Context(), node.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, x := range n.Spec.Taints {
			if x.Key == corev1.TaintNodeUnreachable && x.Effect == corev1.TaintEffectNoExecute {
				return nil
			}
		}
		return fmt.Errorf("its taints are %v", n.Spec.Taints)
	})
	db, err := server.client().CoreV1().Pods("default").Get(t.Context(), "db-0", metav1.GetOptions{})
	if err != nil || db.Spec.NodeName != node.Name || db.DeletionTimestamp != nil {
		t.Fatalf("db-0 was moved though its node may come back: %v %v", db, err)
	}
	kubectl("taint", "node", node.Name, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
	podOn(t, server, "app=db", server.Name)

	kubectl("taint", "node", node.Name, "node.kubernetes.io/out-of-service-")
	node.start("agent", agentArgs...)
	podOn(t, server, "app=watch", node.Name)
	eventually(t, "one container of db runs", func() error {
		count := 0
		for _, p := range processes() {
			if strings.HasSuffix(p.cmdline, "serve :8080 the one db") {
				count++
			}
		}
		if count != 1 {
			return fmt.Errorf("%d run", count)
		}
		return nil
	})
}

// podOn waits until a pod that a selector finds is ready on a node, and returns when it was.
func podOn(t *testing.T, m *machine, selector, node string) time.Time {
	t.Helper()
	var at time.Time
	eventually(t, selector+" is ready on "+node, func() error {
		list, err := m.client().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			for _, c := range p.Status.Conditions {
				if p.Spec.NodeName == node && p.DeletionTimestamp == nil && c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					at = time.Now()
					return nil
				}
			}
		}
		return fmt.Errorf("the pods are %v", placed(m, "default"))
	})
	return at
}
