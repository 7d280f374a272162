package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"reconcile/internal/needs"
)

// TestKubectl types the commands of kubectl, one a script in folder kubectl, on one live cluster: with the kubectl that is built in, and
// with one of an older minor. The scripts in kubectl/alone change the one node and run one after the other.
func TestKubectl(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	old := os.Getenv("OLD_KUBECTL")
	if old == "" {
		needs.Missing(t, "needs a kubectl of an older minor: set OLD_KUBECTL to what scripts/old-kubectl.sh prints, as `make e2e` does")
	}
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox", "toolbox:v2": "./toolbox"})
	m.tarImage("tarbox:v1")
	builtIn := m.bin + " kubectl"
	versions := map[string]scripts{"new": {kubectl: builtIn, other: old}, "old": {kubectl: old, other: builtIn}}
	t.Run("all", func(t *testing.T) {
		for name, s := range versions {
			s.pattern = "kubectl/*.txtar"
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m.scripts(t, s)
			})
		}
	})
	alone, err := filepath.Glob("kubectl/alone/*.txtar")
	if err != nil || len(alone) == 0 {
		t.Fatal("no scripts in kubectl/alone", err)
	}
	for name, s := range versions {
		for _, s.pattern = range alone {
			t.Run(name+"-alone", func(t *testing.T) { m.scripts(t, s) })
		}
	}
}

// tarImage makes an image of the toolbox that has a tar and a test.
func (m *machine) tarImage(name string) {
	m.t.Helper()
	dir := m.t.TempDir()
	for _, d := range []string{"bin", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "app"), "./toolbox")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		m.t.Fatalf("build the toolbox: %v\n%s", err, b)
	}
	for _, name := range []string{"tar", "test"} {
		if err := os.Symlink("/app", filepath.Join(dir, "bin", name)); err != nil {
			m.t.Fatal(err)
		}
	}
	m.reconcile("image", "build", "--data-dir", m.dir, "-t", name, dir)
}

// ages finds what differs between two runs of one command: how old something is, and with it the widths of columns and rules.
var ages = regexp.MustCompile(`\b(\d+[smhd]){1,2}\b|<invalid>|[ \t]+|-{3,}`)

// sameOutput runs a command with both kubectls, which must both succeed (with `!` before it: both fail) and print the same. What the script's
// own kubectl printed is stdout and stderr then.
func sameOutput(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || args[0] != "kubectl" {
		ts.Fatalf("usage: [!] same kubectl ARGS...")
	}
	err := ts.Exec("kubectl", args[1:]...)
	if (err != nil) != neg {
		ts.Fatalf("it ended with %v", err)
	}
	var out, complaint bytes.Buffer
	other := command(ts, "other", args[1:])
	other.Stdout, other.Stderr = &out, &complaint
	if err := other.Run(); (err != nil) != neg {
		ts.Fatalf("the other kubectl ended with %v and printed\n%s%s", err, &out, &complaint)
	}
	compare(ts, "stdout", out.String())
	compare(ts, "stderr", complaint.String())
}

func compare(ts *testscript.TestScript, name, other string) {
	plain := func(s string) string { return strings.TrimSpace(ages.ReplaceAllString(s, " ")) }
	if mine := ts.ReadFile(name); plain(mine) != plain(other) {
		ts.Fatalf("%s differs; this kubectl:\n%s\nthe other:\n%s", name, mine, other)
	}
}
