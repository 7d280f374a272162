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
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// TestScripts runs the scripts of testdata/main on one live cluster with real containers, one after the other, because they share the
// branch main: those about git and our own command line.
//
// A script has, beside testscript's own commands:
//
//	exits CODE PROGRAM ARGS...        runs a program that must end with the code
//	until PATTERN PROGRAM ARGS...     runs a program until it succeeds and its output matches; the output is stdout's then
//	start NAME PROGRAM ARGS...        runs a program in the background until the script ends; its output is the file NAME
//	halt NAME                         ends it as Ctrl-C does
//	same kubectl ARGS...              runs the other kubectl too: both must print the same, ages aside (scripts of kubectl only)
func TestScripts(t *testing.T) {
	t.Parallel()
	m := newLab(t).machine()
	m.start("up")
	m.images(map[string]string{"toolbox:v1": "./toolbox", "toolbox:v2": "./toolbox"})
	main, err := filepath.Glob("testdata/main/*.txtar")
	if err != nil || len(main) == 0 {
		t.Fatal("no scripts in testdata/main", err)
	}
	for _, file := range main {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			m.scripts(t, scripts{kubectl: m.bin + " kubectl", pattern: file})
		})
	}
}

// websockets is the variable that tells kubectl how to exec: by WebSocket, or by SPDY.
const websockets = "KUBECTL_REMOTE_COMMAND_WEBSOCKETS"

// scripts are scripts to run, and the two commands that they call kubectl and other; other may be none. Those with another have a namespace
// each, in which kubectl works without being told.
type scripts struct {
	kubectl, other string
	pattern        string
}

// scripts runs scripts on the machine, all at once.
func (m *machine) scripts(t *testing.T, s scripts) {
	files, err := filepath.Glob(s.pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", s.pattern, err)
	}
	bin := t.TempDir()
	programs := map[string]string{"kubectl": s.kubectl, "reconcile": m.bin, "git": "git", "curl": "curl", "sh": "sh"}
	if s.other != "" {
		programs["other"] = s.other
	}
	for name, command := range programs {
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
	group := strings.NewReplacer("_", "-", "#", "-").Replace(strings.ToLower(filepath.Base(t.Name())))
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(env *testscript.Env) error {
			env.Values[startedKey{}] = map[string]background{}
			ns := group + "-" + strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			for k, v := range map[string]string{
				"PATH": bin + ":" + os.Getenv("PATH"), "HOME": env.WorkDir, "KUBECONFIG": m.kubeconfig(), "DATA": m.dir, "NS": ns,
				"SERVER": "https://" + m.ip + ":6443", "CA": filepath.Join(m.dir, "pki", "ca.crt"), "NODE": m.Name,
				"GIT_AUTHOR_NAME": "e2e", "GIT_AUTHOR_EMAIL": "e2e@example.com", "GIT_COMMITTER_NAME": "e2e", "GIT_COMMITTER_EMAIL": "e2e@example.com",
				// Separate kubectls up to 1.32 lose what a WebSocket brings before they have made their streams: they take SPDY.
				websockets: strconv.FormatBool(strings.HasPrefix(s.kubectl, m.bin)),
			} {
				env.Setenv(k, v)
			}
			if s.other == "" {
				return nil
			}
			return m.namespace(t, env, ns)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until, "start": start, "halt": halt, "same": sameOutput},
	})
}

// namespace makes a script's namespace, and a kubeconfig that means it. Both go with the script.
func (m *machine) namespace(t *testing.T, env *testscript.Env, ns string) error {
	cfg, err := clientcmd.LoadFromFile(m.kubeconfig())
	if err != nil {
		return err
	}
	cfg.Contexts[cfg.CurrentContext].Namespace = ns
	own := filepath.Join(env.WorkDir, ".kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, own); err != nil {
		return err
	}
	env.Setenv("KUBECONFIG", own)
	c := m.client().CoreV1().Namespaces()
	if _, err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace %s: %w", ns, err)
	}
	env.Defer(func() {
		if err := c.Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace %s: %v", ns, err)
		}
	})
	return nil
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
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		cmd := command(ts, args[1], args[2:])
		var out, complaint strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &complaint
		err := cmd.Run()
		if err == nil && pattern.MatchString(out.String()) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within three minutes: the last time it ended with %v and printed\n%s%s", err, out.String(), complaint.String())
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
	for _, k := range []string{"PATH", "HOME", "KUBECONFIG", "DATA", "NS", "SERVER", websockets} {
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
