package guestbook

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPrograms builds both programs as `make run` does: static, for an image with nothing else in it.
func TestPrograms(t *testing.T) {
	for _, name := range []string{"web", "store"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), name), "./"+name)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("build %s: %v\n%s", name, err, out)
		}
	}
}
