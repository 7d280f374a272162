package main

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reconcile/internal/needs"
)

// output is what a process has printed so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

// String is all of it.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// TestInterruptOfMakeRun runs the script of `make run` under make, with programs that only answer, and interrupts the whole process group as
// Ctrl-C does: the servers are stopped, make has nothing to complain of, and the user is told what goes on running.
func TestInterruptOfMakeRun(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil || os.Geteuid() != 0 {
		needs.Missing(t, "it needs make, and root, which the script asks for; run `sudo -E make test`")
	}
	// A shell cannot trap a signal that was ignored when it began, and a test run in the background ignores this one. What a program
	// catches is not ignored in the programs that it starts.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT)
	defer signal.Stop(caught)
	script, err := os.ReadFile("../../scripts/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(text string) string { return "#!/usr/bin/env bash\n" + text + "\n" }
	up := `trap 'echo stopped >>"$3/up.stopped"; exit 0' TERM; echo "ready in 1 ms"; while :; do sleep 0.05; done`
	for name, tc := range map[string]struct {
		curl, until, want string
		status            string
	}{
		"served":   {"echo a page", "Ctrl-C stops the servers", "the containers go on running", ""},
		"too soon": {"echo waiting; sleep 100", "waiting", "interrupted before the page was there", "Error 130"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"Makefile":                           "SHELL := bash\nrun:\n\t@scripts/run.sh\n",
				"scripts/run.sh":                     string(script),
				"bin/reconcile":                      answer(`[ "$1" != up ] || { ` + up + `; }; [ "$1" != kubectl ] || printf 192.0.2.9`),
				"path/go":                            answer("exit 0"),
				"path/git":                           answer("exit 0"),
				"path/curl":                          answer(tc.curl),
				"examples/guestbook/deploy/web.yaml": "",
			} {
				p := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var out output
			cmd := exec.Command("make", "-C", dir, "run")
			cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "path")+":"+os.Getenv("PATH"), "MAKEFLAGS=", "MAKELEVEL=")
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.WaitDelay = time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			group := -cmd.Process.Pid
			defer func() { _ = syscall.Kill(group, syscall.SIGKILL) }()
			for deadline := time.Now().Add(20 * time.Second); !strings.Contains(out.String(), tc.until); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("it does not come to %q:\n%s", tc.until, out.String())
				}
			}
			if err := syscall.Kill(group, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
			_ = cmd.Wait() // make ends by the signal
			if !late.Stop() {
				t.Errorf("it does not end when it is interrupted:\n%s", out.String())
			}
			got := out.String()
			if !strings.Contains(got, tc.want) || !strings.Contains(got, "make clean-run") || strings.Contains(got, "Error") != (tc.status != "") || !strings.Contains(got, tc.status) {
				t.Errorf("the end of make run:\n%s", got)
			}
			if _, err := os.Stat(filepath.Join(dir, "run", "up.stopped")); err != nil {
				t.Errorf("the server was not stopped: %v", err)
			}
		})
	}
}
