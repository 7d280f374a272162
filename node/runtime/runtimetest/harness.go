package runtimetest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"reconcile/internal/needs"
	"reconcile/node/runtime"
)

// Harness is a runtime under test with what its containers are made of.
type Harness struct {
	runtime.Runtime
	// Reopen ends the runtime as if its process were gone, calls meanwhile, and opens it again over the same state.
	Reopen func(t testing.TB, meanwhile func())
	// LayerBase and Layers are an image whose /app is the guest program.
	LayerBase string
	Layers    []string
	// Dir is a folder for the test's own files.
	Dir string
}

// BuildGuest compiles the guest program, for which CGO is off, or takes the one that the environment variable
// RECONCILE_TEST_GUEST names (in a VM there is no compiler). It returns the binary's path.
func BuildGuest(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("RECONCILE_TEST_GUEST"); p != "" {
		return p
	}
	out := filepath.Join(t.TempDir(), "guest")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "reconcile/node/runtime/runtimetest/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the guest program: %v\n%s", err, b)
	}
	return out
}

// NeedsRoot skips, and says why, where no container can be made.
func NeedsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "needs root: containers, mounts and cgroups are made")
	}
	if !runtime.Embedded() {
		needs.Missing(t, "needs the runtime helper: run `make helper` first")
	}
}

// NewHost returns the real runtime in folders and a cgroup of its own, and checks at the end that nothing of it is left.
func NewHost(t testing.TB, guest string) *Harness {
	t.Helper()
	NeedsRoot(t)
	name := fmt.Sprintf("rt%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	run, err := os.MkdirTemp("/run", name+"-")
	if err != nil {
		t.Fatal(err)
	}
	cfg := runtime.Config{Root: t.TempDir(), RunDir: run, CgroupPrefix: "/" + name, Log: Logger(t), LogMaxBytes: 64 << 10, LogMaxFiles: 3}
	base := filepath.Join(cfg.Root, "l")
	if err := os.MkdirAll(filepath.Join(base, "a", "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	CopyFile(t, guest, filepath.Join(base, "a", "app"))
	write(t, filepath.Join(base, "a", "etc", "passwd"), "root:x:0:0::/root:/app\nworker:x:1000:1001::/home:/app\n")
	write(t, filepath.Join(base, "a", "etc", "group"), "root:x:0:\nworker:x:1001:\nextra:x:1002:worker\n")
	h := &Harness{LayerBase: base, Layers: []string{"a"}, Dir: t.TempDir()}
	host, err := runtime.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Runtime = host
	h.Reopen = func(t testing.TB, meanwhile func()) {
		t.Helper()
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
		meanwhile()
		if host, err = runtime.Open(cfg); err != nil {
			t.Fatal(err)
		}
		h.Runtime = host
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := host.Reset(ctx); err != nil {
			t.Errorf("reset: %v", err)
		}
		NothingLeft(t, cfg)
	})
	return h
}

// NothingLeft fails the test when a mount, cgroup or process of a runtime's folders is left.
func NothingLeft(t testing.TB, cfg runtime.Config) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(i.Mountpoint, cfg.Root) && !strings.HasPrefix(i.Mountpoint, cfg.RunDir), false
	})
	if err != nil {
		t.Error(err)
	}
	for _, m := range mounts {
		t.Errorf("mount %s is left", m.Mountpoint)
	}
	for _, pattern := range []string{"/sys/fs/cgroup" + cfg.CgroupPrefix, "/sys/fs/cgroup/*" + cfg.CgroupPrefix} {
		left, _ := filepath.Glob(pattern)
		for _, d := range left {
			t.Errorf("cgroup %s is left", d)
		}
	}
	if _, err := os.Stat(cfg.RunDir); err == nil {
		t.Errorf("%s is left", cfg.RunDir)
	}
}

// Logger writes to the test's log.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t testing.TB }

// Write implements io.Writer.
func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// patience is how long a test waits for what must come. It is no measurement: an emulated machine on a busy host may take its time.
const patience = time.Minute

// Eventually waits for a condition and fails the test when it does not come within patience.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

// CopyFile copies an executable.
func CopyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
