// Package cgroup2_test runs the container runtime's suite on cgroup v2, in a virtual machine; node/runtime runs the same suite on
// whatever the host has.
package cgroup2_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"reconcile/internal/vmtest"
	"reconcile/node/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	vmtest.Main(m, vmtest.Config{
		Modules:  []string{"overlay", "veth", "bridge"},
		MemoryMB: 1024,
		Slow:     true,
		Timeout:  9 * time.Minute,
		Prepare:  buildGuest,
	})
}

// buildGuest compiles the program that runs in the containers: the machine has no compiler.
func buildGuest(dir string, c *vmtest.Config) error {
	const inside = "/usr/bin/guest"
	out := filepath.Join(dir, "guest")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "reconcile/node/runtime/runtimetest/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest program: %w\n%s", err, text)
	}
	c.Files = map[string]string{inside: out}
	c.Env = map[string]string{"RECONCILE_TEST_GUEST": inside}
	return nil
}

func TestRuntime(t *testing.T) {
	runtimetest.NeedsRoot(t)
	guest := runtimetest.BuildGuest(t)
	open := func(t *testing.T) *runtimetest.Harness { return runtimetest.NewHost(t, guest) }
	t.Run("contract", func(t *testing.T) { runtimetest.Contract(t, open) })
	t.Run("kernel", func(t *testing.T) { runtimetest.Kernel(t, open) })
}
