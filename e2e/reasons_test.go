package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const twoSizes = `apiVersion: apps/v1
kind: Deployment
metadata: {name: small}
spec:
  selector: {matchLabels: {app: small}}
  template:
    metadata: {labels: {app: small}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "toolbox:v1", args: [sleep]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: large}
spec:
  replicas: 2
  selector: {matchLabels: {app: large}}
  template:
    metadata: {labels: {app: large}}
    spec:
      containers: [{name: c, image: "toolbox:v1", args: [sleep], resources: {requests: {cpu: "1000"}}}]
`

// TestReasonsAndLogs pushes a pod that runs and pods that no node can take: the plan, kubectl describe and explain tell why, and the
// log tells the way of the commit from the push to the running container under one id.
func TestReasonsAndLogs(t *testing.T) {
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox"})
	r := m.repo()
	r.write(map[string]string{"sizes.yaml": twoSizes})
	const refusal = "0/1 nodes are available: 1 Insufficient cpu."
	if out := r.push("two sizes"); !strings.Contains(out, "large: 2 pods without a node: "+refusal) {
		t.Errorf("the plan does not tell why:\n%s", out)
	}
	pods, err := m.client().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=large"})
	if err != nil || len(pods.Items) != 2 {
		t.Fatalf("pods of large: %v, %v", pods, err)
	}
	pod := pods.Items[0].Name
	for what, out := range map[string]string{
		"kubectl describe":  m.run("kubectl", "--kubeconfig", m.kubeconfig(), "describe", "pod", pod),
		"reconcile explain": m.reconcile("explain", "--data-dir", m.dir, "pod/"+pod),
	} {
		if !strings.Contains(out, "FailedScheduling") || !strings.Contains(out, refusal) {
			t.Errorf("%s does not tell why:\n%s", what, out)
		}
		if what == "reconcile explain" && !strings.Contains(out, "refuses  NodeResourcesFit: Insufficient cpu") {
			t.Errorf("explain does not tell of the node:\n%s", out)
		}
	}

	nodes, err := m.client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("nodes: %v, %v", nodes, err)
	}
	if out := m.reconcile("explain", "--data-dir", m.dir, "node/"+nodes.Items[0].Name); !strings.Contains(out, "default/small-") || !strings.Contains(out, "nowhere") {
		t.Errorf("explain does not tell where the only node's pods would go:\n%s", out)
	}
	if out := m.reconcile("rebalance", "--plan", "--data-dir", m.dir); !strings.Contains(out, "every pod is where it scores best") {
		t.Errorf("rebalance does not say that nothing is to be done on one node:\n%s", out)
	}

	commit := strings.TrimSpace(r.git("rev-parse", "HEAD"))[:12]
	for _, what := range []string{"commit received", "commit validated", "commit planned", "entry committed", "commit committed", "image pulled", "container started", "pod ready"} {
		eventually(t, "the log tells of "+what, func() error {
			for line := range strings.Lines(m.log()) {
				if strings.Contains(line, fmt.Sprintf("msg=%q", what)) && strings.Contains(line, "commit="+commit) {
					return nil
				}
			}
			return errors.New("no such line with commit=" + commit)
		})
	}
	if strings.Contains(m.log(), "level=ERROR") || strings.Contains(m.log(), "heartbeat timeout") {
		t.Errorf("a healthy start complains:\n%s", m.log())
	}
}
