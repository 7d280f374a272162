package agent

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play the child.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "child" {
		f, err := HoldLock(os.Args[2], os.Args[3])
		if err != nil {
			os.Exit(1)
		}
		defer f.Close()
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// eventually waits until ok or the deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestChild(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	of := func(version string) *child {
		lock := filepath.Join(dir, "lock")
		return &child{name: "test", lock: lock, argv: []string{self, "child", lock, version}, version: version, output: filepath.Join(dir, "out"), log: slog.New(slog.DiscardHandler)}
	}
	start := func(c *child) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); c.run(ctx) }()
		return func() { cancel(); <-done }
	}
	pid := func() int { st, _ := running(of("v1").lock); return st.PID }

	stop := start(of("v1"))
	eventually(t, "the child runs", func() bool { return pid() != 0 })
	first := pid()
	stop()
	if pid() != first {
		t.Fatal("the child has ended with the one who looked after it")
	}

	stop = start(of("v1"))
	defer func() { of("v2").stop(context.Background()) }()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "a killed child is back", func() bool { p := pid(); return p != 0 && p != first })
	t.Logf("back after %s", time.Since(began))
	second := pid()
	stop()

	stop = start(of("v2"))
	eventually(t, "a child of another version is replaced", func() bool {
		st, ok := running(of("v2").lock)
		return ok && st.Version == "v2" && st.PID != second
	})
	stop()
	if err := of("v2").stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if pid() != 0 {
		t.Error("the child runs on after stop")
	}
}

// TestStopOfAChildThatIsJustStarting is a reset right after a start: the child must not be missed because it has not come to say that it
// lives.
func TestStopOfAChildThatIsJustStarting(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lock, gate, began := filepath.Join(dir, "lock"), filepath.Join(dir, "gate"), filepath.Join(dir, "began")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	// The shell stands for the time that a process needs to begin: it goes on when the gate is opened.
	script := `echo $$ >"$1.tmp"; mv "$1.tmp" "$1"; read x <"$2"; shift 2; exec "$@"`
	c := &child{name: "test", lock: lock, argv: []string{"/bin/sh", "-c", script, "sh", began, gate, self, "child", lock, "v1"}, version: "v1",
		output: filepath.Join(dir, "out"), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); c.run(ctx) }()
	eventually(t, "the child begins", func() bool { _, err := os.Stat(began); return err == nil })
	cancel()
	<-over
	stopped := make(chan error, 1)
	go func() { stopped <- c.stop(context.Background()) }()
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(began)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	eventually(t, "the child has ended", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}
