package gitops

import (
	"strings"
	"testing"
)

// TestDaemonSetTemplateChanges pushes another template of a daemon set: what counts its templates is the server's own, and no mistake of
// the file's.
func TestDaemonSetTemplateChanges(t *testing.T) {
	w := newWorld(t)
	file := func(image string) map[string]string {
		return map[string]string{"d.yaml": `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: c, image: ` + image + `}]}
`}
	}
	w.commit(file("v1"))
	w.git("push", "cluster", "main")
	w.commit(file("v2"))
	if out := unwrap(w.git("push", "cluster", "main")); !strings.Contains(out, "0 to create, 1 to change, 0 to delete") {
		t.Errorf("the push says %s", out)
	}
}
