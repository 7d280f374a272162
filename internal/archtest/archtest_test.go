package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHouse holds the whole tree against the map.
func TestHouse(t *testing.T) {
	found, err := Check("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// TestPureFilesAreThere sees that the rule about single files still has its files.
func TestPureFilesAreThere(t *testing.T) {
	for _, f := range pureFiles {
		if _, err := os.Stat(filepath.Join("../..", f)); err != nil {
			t.Error(err)
		}
	}
}

// TestRulesAllow holds code that keeps the rules.
func TestRulesAllow(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a wait for a condition":  {"dns/x_test.go": "package dns\nimport \"time\"\nfunc f(ok func() bool) { for !ok() { time.Sleep(1) } }\n"},
		"a bubble's clock":        {"dns/x_test.go": "package dns\nimport (\"time\"\n_ \"testing/synctest\")\nfunc f() { time.Sleep(1) }\n"},
		"cmd prints":              {"cmd/reconcile/x.go": "// Command reconcile is.\npackage main\nimport \"fmt\"\nfunc main() { fmt.Println() }\n"},
		"a program prints":        {"node/runtime/shim/x.go": "// Command shim is.\npackage main\nimport \"fmt\"\nfunc main() { fmt.Println() }\n"},
		"a fake sees its package": {"node/nodetest/x.go": "// Package nodetest is.\npackage nodetest\nimport _ \"reconcile/node\"\n"},
		"tests use a helper":      {"node/x_test.go": "package node\nimport _ \"reconcile/node/nodetest\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Check(tree(t, files))
			if err != nil || len(found) > 0 {
				t.Errorf("Check found %v, %v", found, err)
			}
		})
	}
}

// tree writes files below a folder of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, source := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestRulesBite writes files that break each rule and sees that each is found, with its reason.
func TestRulesBite(t *testing.T) {
	for _, tc := range []struct{ name, file, source, want string }{
		{"upward import", "raftstore/x.go", "// Package raftstore is.\npackage raftstore\nimport _ \"reconcile/object\"\n", "raftstore imports object: raftstore knows no kind"},
		{"machine imports store", "node/runtime/x.go", "// Package runtime is.\npackage runtime\nimport _ \"reconcile/cluster\"\n", "node imports cluster"},
		{"kubernetes outside admission", "api/x.go", "// Package api is.\npackage api\nimport _ \"k8s.io/kubernetes/pkg/apis/core\"\n", "admission is the one importer"},
		{"clock in pure code", "plan/x.go", "// Package plan is.\npackage plan\nimport \"time\"\nvar x = time.Now\n", "calls time.Now"},
		{"goroutine in pure code", "scheduler/x.go", "// Package scheduler is.\npackage scheduler\nfunc f() { go f() }\n", "starts a goroutine"},
		{"network in pure code", "proxy/model/x.go", "// Package model is.\npackage model\nimport _ \"net\"\n", "proxy/model is pure"},
		{"chance in pure code", "plan/x.go", "// Package plan is.\npackage plan\nimport _ \"k8s.io/apimachinery/pkg/util/uuid\"\n", "plan is pure"},
		{"clock in the state machine", "raftstore/fsm.go", "// Package raftstore is.\npackage raftstore\nimport \"time\"\nvar x = time.Now\n", "calls time.Now"},
		{"upwards in a room", "node/image/x.go", "// Package image is.\npackage image\nimport _ \"reconcile/node\"\n", "import each other downwards"},
		{"helper in the program", "node/x.go", "// Package node is.\npackage node\nimport _ \"reconcile/node/nodetest\"\n", "no part of the program"},
		{"print", "dns/x.go", "// Package dns is.\npackage dns\nimport \"os\"\nvar x = os.Stdout\n", "only cmd writes"},
		{"print by fmt", "dns/x.go", "// Package dns is.\npackage dns\nimport \"fmt\"\nfunc f() { fmt.Println() }\n", "only cmd writes"},
		{"sleep", "dns/x_test.go", "package dns\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "sleeps"},
		{"sleep again and again", "dns/x_test.go", "package dns\nimport \"time\"\nfunc f() { for range 3 { time.Sleep(1) } }\n", "sleeps"},
		{"init", "dns/x.go", "// Package dns is.\npackage dns\nfunc init() {}\n", "has an init()"},
		{"no comment", "dns/x.go", "package dns\n", "has no comment"},
		{"no room", "util/x.go", "// Package util is.\npackage util\n", "has no room"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := Check(tree(t, map[string]string{tc.file: tc.source}))
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || !strings.Contains(found[0].String(), tc.want) {
				t.Errorf("Check found %v, want one violation with %q", found, tc.want)
			}
		})
	}
}
