package clients

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// helm runs one version of Helm in one namespace.
type helm struct {
	t             *testing.T
	bin, ns, home string
}

func (h helm) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.bin, append(args, "--namespace", h.ns)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+h.home, "HELM_CACHE_HOME="+h.home, "HELM_CONFIG_HOME="+h.home, "HELM_DATA_HOME="+h.home)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ok runs a command whose output must have some words.
func (h helm) ok(want string, args ...string) {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil || !strings.Contains(out, want) {
		h.t.Fatalf("helm %s: %v, want %q in\n%s", strings.Join(args, " "), err, want, out)
	}
}

// fails runs a command that must fail with some words.
func (h helm) fails(want string, args ...string) {
	h.t.Helper()
	if out, err := h.try(args...); err == nil || !strings.Contains(out, want) {
		h.t.Fatalf("helm %s: %v, want a failure with %q in\n%s", strings.Join(args, " "), err, want, out)
	}
}

// TestHelm installs, upgrades, tests, rolls back and uninstalls a chart with both versions of Helm.
func TestHelm(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3", "4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			bin := os.Getenv("HELM" + version)
			if bin == "" {
				if os.Getenv("TEST_REQUIRED") != "" {
					t.Fatal("nothing may be missing here: set HELM" + version + " to what scripts/helm.sh prints")
				}
				t.Skip("needs Helm: set HELM" + version + " to what scripts/helm.sh prints, as `make clients` does")
			}
			h := helm{t: t, bin: bin, ns: namespace(t), home: t.TempDir()}
			h.walk()
		})
	}
}

func (h helm) walk() {
	t := h.t
	const chart = "testdata/chart"
	deployments := clientset(t).AppsV1().Deployments(h.ns)
	maps := clientset(t).CoreV1().ConfigMaps(h.ns)
	greeting := func(want string) {
		t.Helper()
		c, err := maps.Get(t.Context(), "web", metav1.GetOptions{})
		must(t, err)
		if c.Data["greeting"] != want {
			t.Errorf("it says %v, want %s", c.Data, want)
		}
	}
	h.ok("It says hello.", "install", "web", chart, "--wait", "--timeout", "180s")
	rolledOut(t, h.ns, "web", 1)
	greeting("hello")
	h.fails("a name that is still in use", "install", "web", chart)
	h.ok("deployed", "list")
	h.ok("STATUS: deployed", "status", "web")
	h.ok("kind: Deployment", "get", "manifest", "web")

	h.ok("It says good day.", "upgrade", "web", chart, "--set", "replicas=2,greeting=good day", "--wait", "--timeout", "180s")
	rolledOut(t, h.ns, "web", 2)
	greeting("good day")
	h.ok("Succeeded", "test", "web", "--timeout", "180s")
	// What others set stays: Helm patches what the chart changed.
	_, err := deployments.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"metadata":{"annotations":{"mine":"1"}}}`), metav1.PatchOptions{})
	must(t, err)
	h.ok("REVISION: 3", "upgrade", "--install", "web", chart, "--reuse-values", "--set", "greeting=good evening", "--wait", "--timeout", "180s")
	if d, err := deployments.Get(t.Context(), "web", metav1.GetOptions{}); err != nil || d.Annotations["mine"] != "1" || *d.Spec.Replicas != 2 {
		t.Errorf("after an upgrade: %v, %v", d, err)
	}

	// An upgrade that never gets ready fails; the release goes back.
	h.fails("", "upgrade", "web", chart, "--set", "image=nowhere:v1", "--wait", "--timeout", "3s")
	h.ok("failed", "history", "web")
	h.ok("Rollback was a success", "rollback", "web", "1", "--wait", "--timeout", "180s")
	rolledOut(t, h.ns, "web", 1)
	greeting("hello")
	h.ok("5", "history", "web", "--max", "10")

	h.fails("spec.replicas", "upgrade", "web", chart, "--set", "replicas=-1")
	h.ok("uninstalled", "uninstall", "web", "--wait", "--timeout", "180s")
	if _, err := deployments.Get(t.Context(), "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after uninstall: %v", err)
	}
	secrets, err := clientset(t).CoreV1().Secrets(h.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	must(t, err)
	if len(secrets.Items) != 0 {
		t.Errorf("%d secrets of releases are left", len(secrets.Items))
	}
}
