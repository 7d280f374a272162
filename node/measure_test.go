package node_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"reconcile/object"
)

// TestMetrics: the agent tells what each running container uses, by a kubelet's names, also of those that it took over.
func TestMetrics(t *testing.T) {
	l := newLab(t)
	p := pod("web", container("web", "serve", "8080"), container("side", "sleep"))
	l.server.Put(p)
	l.ready("web")
	told := func(name, labels string) error {
		b, err := l.agent.Metrics(t.Context())
		if err != nil {
			return err
		}
		if !regexp.MustCompile(`(?m)^` + name + regexp.QuoteMeta(labels) + ` [0-9.e+]*[1-9][0-9.e+]*( \d+)?$`).Match(b) {
			return errors.New(string(b))
		}
		return nil
	}
	all := func() {
		t.Helper()
		for _, c := range []string{"web", "side"} {
			labels := `{container="` + c + `",namespace="default",pod="web"}`
			for _, name := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds"} {
				l.eventually(name+" of "+c, func() bool { return told(name, labels) == nil })
			}
		}
		l.eventually("the leader is told the same", func() bool {
			n, err := l.agent.Counters(t.Context())
			if err != nil || n.Machine == nil || n.Machine.CPU <= 0 || n.Machine.Memory <= 0 || n.Machine.At <= 0 || len(n.Pods) != 1 || n.Pods[0].Namespace != "default" || n.Pods[0].Name != "web" || len(n.Pods[0].Containers) != 2 {
				return false
			}
			for i, name := range []string{"side", "web"} {
				if c := n.Pods[0].Containers[i]; c.Name != name || c.CPU <= 0 || c.Memory <= 0 || c.Started <= 0 || c.At < c.Started {
					return false
				}
			}
			return true
		})
		for _, name := range []string{"pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes"} {
			if err := told(name, `{namespace="default",pod="web"}`); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{"node_cpu_usage_seconds_total", "node_memory_working_set_bytes"} {
			if err := told(name, ""); err != nil {
				t.Error(err)
			}
		}
	}
	all()
	l.stop()
	l.start()
	all()
	l.server.Remove(object.Key{Resource: "pods", Namespace: "default", Name: "web"})
	l.eventually("nothing is told of a pod that has gone", func() bool {
		b, err := l.agent.Metrics(t.Context())
		return err == nil && !strings.Contains(string(b), "pod=")
	})
}
