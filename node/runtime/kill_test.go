package runtime_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"reconcile/node/runtime"
	"reconcile/node/runtime/runtimetest"
)

// TestAgentKilled: a process that runs containers is killed with SIGKILL; another one takes them over. The first process is this
// test binary itself, told by an environment variable.
func TestAgentKilled(t *testing.T) {
	runtimetest.NeedsRoot(t)
	if dir := os.Getenv("RECONCILE_TEST_KILLED"); dir != "" {
		runUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	run, err := os.MkdirTemp("/run", "rtkill-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "l", "a", "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	runtimetest.CopyFile(t, runtimetest.BuildGuest(t), filepath.Join(dir, "l", "a", "app"))
	cmd := exec.Command(os.Args[0], "-test.run", "^TestAgentKilled$")
	cmd.Env = append(os.Environ(), "RECONCILE_TEST_KILLED="+dir, "RECONCILE_TEST_RUN="+run)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "running\n" {
		t.Fatalf("the first process said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	cfg := killConfig(dir, run)
	h, err := runtime.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	harness := &runtimetest.Harness{Runtime: h}
	c, ok := harness.Find(t, "c")
	if !ok || c.State != runtime.Running {
		t.Errorf("after the kill: %+v", c)
	}
	if x := harness.Ended(t, "soon"); x.Code != 7 {
		t.Errorf("what ended meanwhile has code %d, want 7", x.Code)
	}
	if code, err := h.Exec(context.Background(), "c", runtime.ExecConfig{Args: []string{"/app", "exit", "5"}}); code != 5 || err != nil {
		t.Errorf("exec = %d, %v", code, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := h.Reset(ctx); err != nil {
		t.Error(err)
	}
	runtimetest.NothingLeft(t, cfg)
}

func killConfig(dir, run string) runtime.Config {
	return runtime.Config{Root: dir, RunDir: run, CgroupPrefix: "/" + filepath.Base(run), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func runUntilKilled(t *testing.T, dir string) {
	h, err := runtime.Open(killConfig(dir, os.Getenv("RECONCILE_TEST_RUN")))
	if err != nil {
		t.Fatal(err)
	}
	harness := &runtimetest.Harness{Runtime: h, LayerBase: filepath.Join(dir, "l"), Layers: []string{"a"}}
	harness.Pod(t, "aaaa")
	for id, args := range map[string][]string{"c": {"sleep"}, "soon": {"exit", "7"}} {
		c := harness.Config("aaaa", id, args...)
		c.ID = id
		harness.Run(t, c)
	}
	fmt.Println("running")
	<-time.After(time.Minute)
	t.Fatal("nobody killed it")
}
