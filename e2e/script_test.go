package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/needs"
)

// TestScripts runs the scripts of testdata on one live cluster with real containers: those of kubectl with the separate kubectl and
// with `reconcile kubectl`, each in a namespace of its own; those about git and our own command line one after the other, because
// they share the branch main.
//
// A script has, beside testscript's own commands:
//
//	exits CODE PROGRAM ARGS...        runs a program that must end with the code
//	until PATTERN PROGRAM ARGS...     runs a program until it succeeds and its output matches; the output is stdout's then
//	start NAME PROGRAM ARGS...        runs a program in the background until the script ends; its output is the file NAME
//	halt NAME                         ends it as Ctrl-C does
func TestScripts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox", "toolbox:v2": "./toolbox"})
	t.Run("kubectl", func(t *testing.T) {
		if _, err := exec.LookPath("kubectl"); err != nil {
			needs.Missing(t, "needs a separate kubectl: run scripts/deps.sh test")
		}
		m.scripts(t, "kubectl", "testdata/kubectl/*.txtar")
	})
	t.Run("built-in", func(t *testing.T) { m.scripts(t, m.bin+" kubectl", "testdata/kubectl/*.txtar") })
	main, err := filepath.Glob("testdata/main/*.txtar")
	if err != nil || len(main) == 0 {
		t.Fatal("no scripts in testdata/main", err)
	}
	for _, file := range main {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { m.scripts(t, m.bin+" kubectl", file) })
	}
}

// websockets is the variable that tells kubectl how to exec: by WebSocket, or by SPDY.
const websockets = "KUBECTL_REMOTE_COMMAND_WEBSOCKETS"

// scripts runs scripts on the machine, all at once. In them, kubectl is the given command.
func (m *machine) scripts(t *testing.T, kubectl, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", pattern, err)
	}
	bin := t.TempDir()
	for name, command := range map[string]string{"kubectl": kubectl, "reconcile": m.bin, "git": "git", "curl": "curl", "sh": "sh"} {
		program, args, _ := strings.Cut(command, " ")
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		wrapper := fmt.Sprintf("#!/bin/sh\nexec nsenter --net=%s -- %s %s \"$@\"\n", m.Path, path, args)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(wrapper), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	group := strings.ReplaceAll(strings.ToLower(filepath.Base(t.Name())), "_", "-")
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(env *testscript.Env) error {
			env.Values[startedKey{}] = map[string]background{}
			script := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			ns := group + "-" + script
			for k, v := range map[string]string{
				"PATH": bin + ":" + os.Getenv("PATH"), "HOME": env.WorkDir, "KUBECONFIG": m.kubeconfig(), "DATA": m.dir, "NS": ns,
				"SERVER": "https://" + m.ip + ":6443", "CA": filepath.Join(m.dir, "pki", "ca.crt"), "NODE": m.Name,
				"GIT_AUTHOR_NAME": "e2e", "GIT_AUTHOR_EMAIL": "e2e@example.com", "GIT_COMMITTER_NAME": "e2e", "GIT_COMMITTER_EMAIL": "e2e@example.com",
				// Separate kubectls up to 1.32 lose what a WebSocket brings before they have made their streams: they take SPDY.
				websockets: strconv.FormatBool(kubectl != "kubectl"),
			} {
				env.Setenv(k, v)
			}
			if !strings.HasPrefix(files[0], "testdata/kubectl/") {
				return nil
			}
			if out, err := m.try(m.bin, "kubectl", "--kubeconfig", m.kubeconfig(), "create", "namespace", ns); err != nil {
				return fmt.Errorf("create namespace %s: %w: %s", ns, err, out)
			}
			env.Defer(func() {
				if err := m.client().CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
					t.Errorf("delete namespace %s: %v", ns, err)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until, "start": start, "halt": halt},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("it ended with %d, want %d", got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARGS...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		cmd := command(ts, args[1], args[2:])
		var out, complaint strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &complaint
		err := cmd.Run()
		if err == nil && pattern.MatchString(out.String()) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within 40 s: the last time it ended with %v and printed\n%s%s", err, out.String(), complaint.String())
		}
	}
}

// command makes a command with the script's folder and environment.
func command(ts *testscript.TestScript, name string, args []string) *exec.Cmd {
	path := name
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			path = filepath.Join(dir, name)
			break
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, k := range []string{"PATH", "HOME", "KUBECONFIG", "DATA", "NS", websockets} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	return cmd
}

// background is a process that start has started.
type background struct {
	*exec.Cmd
	ended chan struct{}
}

func (b background) end(sig os.Signal) {
	//nolint:errcheck // it may have ended
	b.Process.Signal(sig)
	<-b.ended
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM ARGS...")
	}
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer out.Close()
	b := background{command(ts, args[1], args[2:]), make(chan struct{})}
	b.Stdout, b.Stderr = out, out
	ts.Check(b.Start())
	go func() {
		defer close(b.ended)
		//nolint:errcheck // the script judges it by what it has printed
		b.Wait()
	}()
	ts.Defer(func() { b.end(os.Kill) })
	started(ts)[args[0]] = b
}

func halt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: halt NAME")
	}
	b, ok := started(ts)[args[0]]
	if !ok {
		ts.Fatalf("nothing named %s was started", args[0])
	}
	b.end(os.Interrupt)
}

// startedKey is where a script's background processes are kept.
type startedKey struct{}

func started(ts *testscript.TestScript) map[string]background {
	return ts.Value(startedKey{}).(map[string]background)
}
