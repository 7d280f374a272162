package e2e

import "testing"

// TestWorkloads runs what makes pods other than Deployments, with real containers: Jobs, CronJobs, StatefulSets, DaemonSets.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	m := newLab(t).machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox", "toolbox:v2": "./toolbox"})
	m.scripts(t, scripts{kubectl: m.bin + " kubectl", pattern: "testdata/workloads/*.txtar"})
}
