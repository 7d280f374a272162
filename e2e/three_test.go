package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// copyKeys gives a new machine the cluster's authority, as its administrator would.
func copyKeys(t *testing.T, from, to *machine) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(to.dir, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "ca.key"} {
		b, err := os.ReadFile(filepath.Join(from.dir, "pki", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to.dir, "pki", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// readyNodes waits until so many nodes are ready, as the server of m sees it.
func readyNodes(m *machine, want int) {
	m.t.Helper()
	c := m.client()
	eventually(m.t, fmt.Sprintf("%d nodes are ready", want), func() error {
		nodes, err := c.CoreV1().Nodes().List(m.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range nodes.Items {
			for _, cond := range n.Status.Conditions {
				if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
					ready++
				}
			}
		}
		if ready != want {
			return fmt.Errorf("%d are ready", ready)
		}
		return nil
	})
}

const spread = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: toolbox:v1
          args: [serve, ":8080", "I am $(POD_NAME)"]
          env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

// TestThreeMachines makes a cluster of three machines with three servers, spreads a deployment over them, reaches its service from each
// machine and across them, kills one server's machine's processes, and deploys again.
func TestThreeMachines(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var ms []*machine
	for i := range 3 {
		m := l.machine()
		if i == 0 {
			m.start("up")
		} else {
			copyKeys(t, ms[0], m)
			m.start("up", "--join", ms[0].ip+":6443")
		}
		m.images(map[string]string{"toolbox:v1": "./toolbox"})
		ms = append(ms, m)
	}
	c := ms[0].client()
	readyNodes(ms[0], 3)
	r := ms[0].repo()
	r.write(map[string]string{"web.yaml": spread})
	t.Log(r.push("web on three machines"))
	r.healthy()
	pods, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]int{}
	for _, p := range pods.Items {
		nodes[p.Spec.NodeName]++
	}
	if len(nodes) != 3 {
		t.Errorf("the pods stand on %v, want all three nodes", nodes)
	}
	svc, err := c.CoreV1().Services("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answers := func(m *machine, want int) {
		t.Helper()
		seen := map[string]bool{}
		eventually(t, fmt.Sprintf("%d replicas answer %s through the service's address", want, m.Name), func() error {
			body, err := m.get("http://" + svc.Spec.ClusterIP + "/")
			if err != nil {
				return err
			}
			seen[strings.TrimSpace(body)] = true
			if len(seen) < want {
				return fmt.Errorf("seen %v", seen)
			}
			return nil
		})
	}
	for _, m := range ms {
		answers(m, 6)
	}
	for _, p := range pods.Items {
		eventually(t, "pod "+p.Name+" reaches the service by its name", func() error {
			out, err := ms[0].try("kubectl", "--kubeconfig", ms[0].kubeconfig(), "exec", p.Name, "--", "/app", "get", "http://web/")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}

	// The leader measures what nodes use; every server tells it.
	for _, m := range ms {
		measured(m, 3)
	}

	ms[0].kill()
	answers(ms[1], 6)
	r2 := ms[1].repo()
	eventually(t, "clone from another server", func() error {
		out, err := ms[1].try("git", "-C", r2.dir, "pull", "-q", "cluster", "main")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	// The lost node counts as ready until its lease has run out, as in Kubernetes; a pod placed there would wait for its return.
	readyNodes(ms[1], 2)
	lost(ms[1], ms[0].Name, true)
	var client string
	for _, p := range pods.Items {
		if p.Spec.NodeName == ms[1].Name {
			client = p.Name
		}
	}
	reachesAPI(ms[1], client, 5)
	r2.write(map[string]string{"more.yaml": strings.ReplaceAll(strings.ReplaceAll(spread, "name: web", "name: more"), "replicas: 6", "replicas: 1")})
	t.Log(r2.push("more, with one server gone"))
	eventually(t, "what was pushed without the first server runs", func() error {
		d, err := ms[1].client().AppsV1().Deployments("default").Get(t.Context(), "more", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != 1 {
			err = fmt.Errorf("%d are ready", d.Status.ReadyReplicas)
		}
		return err
	})
	ms[0].start("up")
	eventually(t, "the killed server follows again", func() error {
		_, err := ms[0].client().AppsV1().Deployments("default").Get(t.Context(), "more", metav1.GetOptions{})
		return err
	})
	readyNodes(ms[1], 3)
	lost(ms[1], ms[0].Name, false)
}

// measured waits until a server tells what so many nodes use.
func measured(m *machine, want int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%s tells what %d nodes use", m.Name, want), func() error {
		out, err := m.try("kubectl", "--kubeconfig", m.kubeconfig(), "--server", "https://"+m.ip+":6443", "top", "nodes", "--no-headers")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if n := strings.Count(out, "Mi"); n != want {
			return fmt.Errorf("%d do: %s", n, out)
		}
		return nil
	})
}

// lost waits until a node is tainted as unreachable and its endpoints are out of service web, or until both is undone.
func lost(m *machine, node string, want bool) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("node %s is lost: %v", node, want), func() error {
		n, err := m.client().CoreV1().Nodes().Get(m.t.Context(), node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		tainted := slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return x.Key == corev1.TaintNodeUnreachable })
		slicesOf, err := m.client().DiscoveryV1().EndpointSlices("default").List(m.t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
		if err != nil {
			return err
		}
		ready := 0
		for _, s := range slicesOf.Items {
			for _, e := range s.Endpoints {
				if *e.NodeName == node && *e.Conditions.Ready {
					ready++
				}
			}
		}
		if tainted != want || (ready == 0) != want {
			return fmt.Errorf("tainted %v, %d ready endpoints of web", tainted, ready)
		}
		return nil
	})
}
