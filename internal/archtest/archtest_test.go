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

// TestRulesBite writes files that break each rule and sees that each is found, with its reason.
func TestRulesBite(t *testing.T) {
	for _, tc := range []struct{ name, file, source, want string }{
		{"upward import", "raftstore/x.go", "// Package raftstore is.\npackage raftstore\nimport _ \"reconcile/object\"\n", "raftstore imports object: raftstore knows no kind"},
		{"machine imports store", "node/runtime/x.go", "// Package runtime is.\npackage runtime\nimport _ \"reconcile/cluster\"\n", "node imports cluster"},
		{"kubernetes outside admission", "api/x.go", "// Package api is.\npackage api\nimport _ \"k8s.io/kubernetes/pkg/apis/core\"\n", "admission is the one importer"},
		{"clock in pure code", "plan/x.go", "// Package plan is.\npackage plan\nimport \"time\"\nvar x = time.Now\n", "calls time.Now"},
		{"goroutine in pure code", "scheduler/x.go", "// Package scheduler is.\npackage scheduler\nfunc f() { go f() }\n", "starts a goroutine"},
		{"network in pure code", "proxy/model/x.go", "// Package model is.\npackage model\nimport _ \"net\"\n", "proxy/model is pure"},
		{"init", "dns/x.go", "// Package dns is.\npackage dns\nfunc init() {}\n", "has an init()"},
		{"no comment", "dns/x.go", "package dns\n", "has no comment"},
		{"no room", "util/x.go", "// Package util is.\npackage util\n", "has no room"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, tc.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tc.source), 0o644); err != nil {
				t.Fatal(err)
			}
			found, err := Check(root)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || !strings.Contains(found[0].String(), tc.want) {
				t.Errorf("Check found %v, want one violation with %q", found, tc.want)
			}
		})
	}
}
