package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reachesAPI asks the API from within a pod, as in-cluster clients do: by the service's name and address, with the certificate
// checked against the cluster's authority. times is how often in a row it must answer.
func reachesAPI(m *machine, pod string, times int) {
	m.t.Helper()
	ca, err := os.ReadFile(filepath.Join(m.dir, "pki", "ca.crt"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, host := range []string{"kubernetes", "kubernetes.default.svc:443", "kubernetes.default.svc.cluster.local", "10.96.0.1"} {
		eventually(m.t, "pod "+pod+" reaches the API at "+host, func() error {
			for i := range times {
				out, err := m.try("kubectl", "--kubeconfig", m.kubeconfig(), "exec", pod, "--", "/app", "get", "https://"+host+"/version", string(ca))
				if err == nil && !strings.Contains(out, `"gitVersion"`) {
					err = errors.New("that is no version")
				}
				if err != nil {
					return fmt.Errorf("try %d: %w: %s", i, err, out)
				}
			}
			return nil
		})
	}
}

// TestAPIFromAPod reaches the API's service from a pod of a cluster of one, and the pod's loopback through a forwarded port.
func TestAPIFromAPod(t *testing.T) {
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox"})
	r := m.repo()
	r.write(map[string]string{"pod.yaml": `apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "toolbox:v1", args: [serve, "127.0.0.1:8080", "hello from loopback"]}]
`})
	r.push("a client of the API")
	r.healthy()
	reachesAPI(m, "client", 1)
	if out, err := m.try("kubectl", "--kubeconfig", m.kubeconfig(), "exec", "client", "--", "/app", "get", "https://kubernetes.default.svc/version"); err == nil {
		t.Errorf("without the cluster's authority the certificate was taken: %s", out)
	}
	if out := m.run("kubectl", "--kubeconfig", m.kubeconfig(), "exec", "client", "--", "/app", "lookup", "kube-dns.kube-system"); !strings.Contains(out, "10.96.0.10") {
		t.Errorf("kube-dns is at %s", out)
	}
	for _, by := range [][]string{{"kubectl"}, {m.bin, "kubectl"}} {
		ctx, stop := context.WithCancel(t.Context())
		cmd := m.Command(ctx, by[0], append(by[1:], "--kubeconfig", m.kubeconfig(), "port-forward", "pod/client", "18080:8080")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod answers through port-forward of "+by[0], func() error {
			body, err := m.get("http://127.0.0.1:18080/")
			if err == nil && body != "hello from loopback\n" {
				err = fmt.Errorf("the answer is %q", body)
			}
			return err
		})
		stop()
		//nolint:errcheck // it was killed
		cmd.Wait()
	}
}
