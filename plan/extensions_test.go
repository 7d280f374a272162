package plan

import (
	"strings"
	"testing"

	"reconcile/scheduler"
)

// TestExtensionsAreKnown: a profile that names an extension is no fault of a push to a cluster whose program has it.
func TestExtensionsAreKnown(t *testing.T) {
	const tree = "# s.yaml:1\n{apiVersion: v1, kind: ConfigMap, metadata: {name: scheduler-profiles, namespace: kube-system}, data: {odd: \"extensions: [OddNodes]\"}}\n"
	w := newWorld(t)
	in := w.decide(w.state.Clone(), readTree(t, tree), "c0ffee", w.now)
	warnings := func() string {
		p, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(p.Warnings, "\n")
	}
	if got := warnings(); !strings.Contains(got, "OddNodes: this program has none of that name") {
		t.Errorf("a program without the extension warns %q", got)
	}
	in.Extensions = []*scheduler.Extension{{Name: "OddNodes"}}
	if got := warnings(); got != "" {
		t.Errorf("a program with the extension warns %q", got)
	}
}
