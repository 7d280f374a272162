package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/netnstest"
)

// TestNodeAlone takes a node's servers away and then kills its agent too: containers, the service's address and names go on, a container
// that dies meanwhile is restarted, an agent that starts without servers takes over what runs, and after healing the statuses catch up.
func TestNodeAlone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	server, node := l.machine(), l.machine()
	server.start("up")
	copyKeys(t, server, node)
	agentArgs := []string{"--servers", "https://" + server.ip + ":6443"}
	node.start("agent", agentArgs...)
	node.images(map[string]string{"toolbox:v1": "./toolbox"})
	readyNodes(server, 2)

	r := server.repo()
	r.write(map[string]string{"web.yaml": strings.NewReplacer("replicas: 6", "replicas: 2",
		"    spec:\n", "    spec:\n      nodeSelector: {kubernetes.io/hostname: "+node.Name+"}\n").Replace(spread)})
	r.push("web on the node that will be alone")
	r.healthy()
	c := server.client()
	pods := func() []corev1.Pod {
		t.Helper()
		list, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	before := pods()
	if len(before) != 2 || before[0].Spec.NodeName != node.Name || before[1].Spec.NodeName != node.Name {
		t.Fatalf("want 2 pods on %s, have %v", node.Name, placed(server, "default"))
	}
	svc, err := c.CoreV1().Services("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	serves := func(when string) {
		t.Helper()
		seen := map[string]bool{}
		eventually(t, "both replicas answer through the service's address "+when, func() error {
			body, err := node.get("http://" + svc.Spec.ClusterIP + "/")
			if err != nil {
				return err
			}
			if seen[strings.TrimSpace(body)] = true; len(seen) < 2 {
				return fmt.Errorf("only %v answered", seen)
			}
			return nil
		})
	}
	container := func(pod string) int {
		return processOf(t, "the container of "+pod, func(cmdline string) bool { return strings.HasSuffix(cmdline, "serve :8080 I am "+pod) })
	}
	serves("at first")
	first, second := container(before[0].Name), container(before[1].Name)

	l.Partition([]*netnstest.Machine{server.Machine}, []*netnstest.Machine{node.Machine})
	serves("without servers")
	sigkill(t, first)
	eventually(t, "a container that died without servers is restarted", func() error {
		for _, p := range processes() {
			if p.pid != first && strings.HasSuffix(p.cmdline, "serve :8080 I am "+before[0].Name) {
				return nil
			}
		}
		return fmt.Errorf("it is not")
	})
	serves("after the restart")

	restarted := container(before[0].Name)
	node.kill()
	serves("without servers and without an agent")
	node.start("agent", agentArgs...)
	serves("with a new agent that has no servers")
	if a, b := container(before[0].Name), container(before[1].Name); a != restarted || b != second {
		t.Errorf("the containers' processes were %d and %d, are %d and %d", restarted, second, a, b)
	}

	l.Heal()
	eventually(t, "the statuses catch up", func() error {
		for _, p := range pods() {
			s := p.Status.ContainerStatuses[0]
			want := int32(0)
			if p.Name == before[0].Name {
				want = 1
			}
			if s.RestartCount != want || !s.Ready {
				return fmt.Errorf("%s has restarted %d times, ready %v; want %d", p.Name, s.RestartCount, s.Ready, want)
			}
		}
		return nil
	})
	readyNodes(server, 2)
	after := pods()
	for i := range before {
		if after[i].UID != before[i].UID || after[i].Status.PodIP != before[i].Status.PodIP {
			t.Errorf("pod %s was replaced by %s", before[i].Name, after[i].Name)
		}
	}
	// The way back works too: the node does what is pushed now.
	r.write(map[string]string{"web.yaml": strings.NewReplacer("replicas: 6", "replicas: 3",
		"    spec:\n", "    spec:\n      nodeSelector: {kubernetes.io/hostname: "+node.Name+"}\n").Replace(spread)})
	r.push("three")
	r.healthy()
}
