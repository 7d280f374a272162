package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"reconcile/internal/diskspace"
	"reconcile/internal/needs"
	"reconcile/internal/netnstest"
)

// binary is the program under test, or the test is skipped with the reason.
func binary(t *testing.T) string {
	t.Helper()
	b := os.Getenv("RECONCILE_BIN")
	if b == "" {
		needs.Missing(t, "needs the built program: set RECONCILE_BIN to its path, as `make e2e` does")
	}
	if os.Geteuid() != 0 {
		needs.Missing(t, "needs root: real containers and network namespaces")
	}
	space, err := diskspace.At(os.TempDir()).Space()
	if err != nil {
		t.Fatal(err)
	}
	if used := space.UsedPercent(); used >= imagesGo {
		t.Fatalf("%d %% of the disk of %s is used: from %d %% on agents remove images that no pod has at the moment, and scripts wait for them in vain; free some first", used, os.TempDir(), imagesGo)
	}
	return b
}

// imagesGo is how full a disk is, in percent, at which agents begin to remove images.
const imagesGo = 85

// machine is one machine of a cluster: a network namespace with a reconcile process in it.
type machine struct {
	*netnstest.Machine
	t    *testing.T
	bin  string
	ip   string
	dir  string
	cmd  *exec.Cmd
	done chan error
}

// lab is a switch with machines on it.
type lab struct {
	*netnstest.Lab
	t   *testing.T
	bin string
	lan *netnstest.Switch
	all []*machine
}

func newLab(t *testing.T) *lab {
	bin := binary(t)
	l := netnstest.New(t)
	return &lab{Lab: l, t: t, bin: bin, lan: l.Switch("lan")}
}

// machine makes the next machine. What its process leaves is removed when the test ends.
func (l *lab) machine() *machine {
	n := len(l.all) + 1
	name := fmt.Sprintf("n%d", n)
	m := &machine{t: l.t, bin: l.bin, ip: fmt.Sprintf("192.168.78.%d", n), dir: filepath.Join(l.t.TempDir(), name)}
	m.Machine = l.Machine(name).Attach(l.lan, "eth0", m.ip+"/24")
	m.Route("default", "192.168.78.254")
	l.all = append(l.all, m)
	l.t.Cleanup(func() {
		m.stop()
		if l.t.Failed() {
			l.t.Logf("the end of %s's log:\n%s", name, tail(m.log(), 60))
		}
		if out, err := m.Command(context.Background(), l.bin, "reset", "--data-dir", m.dir, "--yes").CombinedOutput(); err != nil {
			l.t.Errorf("reset %s: %v: %s", name, err, out)
		}
		// Killed processes are in /proc until the host's init has reaped them.
		eventually(l.t, name+" leaves nothing behind after reset", func() error {
			if left := leftovers(m.dir); len(left) > 0 {
				return errors.New(strings.Join(left, "\n"))
			}
			return nil
		})
	})
	return m
}

// start starts `reconcile COMMAND` and waits for the line that begins with ready.
func (m *machine) start(command string, args ...string) {
	m.t.Helper()
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	out, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	at := len(m.log())
	m.cmd = exec.Command(m.bin, append([]string{command, "--data-dir", m.dir, "--node-name", m.Name, "--advertise-addr", m.ip}, args...)...)
	m.cmd.Stdout, m.cmd.Stderr = out, out
	if err := m.Machine.Start(m.cmd); err != nil {
		m.t.Fatal(err)
	}
	m.done = make(chan error, 1)
	cmd, done := m.cmd, m.done
	go func() { done <- cmd.Wait() }()
	eventually(m.t, m.Name+" is ready", func() error {
		select {
		case err := <-m.done:
			m.done <- err
			m.t.Fatalf("%s has ended: %v\n%s", m.Name, err, tail(m.log(), 30))
		default:
		}
		if !strings.Contains("\n"+m.log()[at:], "\nready") {
			return errors.New("no line ready yet")
		}
		return nil
	})
}

// signal sends a signal to the process and waits for its end.
func (m *machine) signal(sig syscall.Signal) {
	m.t.Helper()
	if m.cmd == nil {
		return
	}
	if err := m.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Fatal(err)
	}
	select {
	case <-m.done:
	case <-time.After(30 * time.Second):
		m.cmd.Process.Kill()
		<-m.done
		m.t.Errorf("%s did not end within 30 s of %v", m.Name, sig)
	}
	m.cmd = nil
}

// stop ends the process as Ctrl-C does.
func (m *machine) stop() { m.signal(syscall.SIGINT) }

// kill ends the process as a crash does.
func (m *machine) kill() { m.signal(syscall.SIGKILL) }

func (m *machine) log() string {
	b, _ := os.ReadFile(m.dir + ".log")
	return string(b)
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// run runs a command on the machine and returns its output; a failure fails the test.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.try(name, args...)
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs a command on the machine in the work tree's folder and returns its output.
func (m *machine) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := m.Command(ctx, name, args...)
	// It would override the authority that `reconcile remote add` tells git.
	cmd.Env = slices.DeleteFunc(cmd.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_SSL_CAINFO=") })
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// reconcile runs our own command line.
func (m *machine) reconcile(args ...string) string {
	m.t.Helper()
	return m.run(m.bin, args...)
}

func (m *machine) kubeconfig() string { return filepath.Join(m.dir, "admin.kubeconfig") }

// client is a client-go client that dials from the machine.
func (m *machine) client() *kubernetes.Clientset {
	m.t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig())
	if err != nil {
		m.t.Fatal(err)
	}
	cfg.QPS = -1
	cfg.Dial = func(_ context.Context, network, addr string) (net.Conn, error) {
		return m.Dial(network+"4", addr, 5*time.Second)
	}
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// get fetches a URL from the machine.
func (m *machine) get(url string) (string, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return m.Dial("tcp4", addr, 2*time.Second)
		},
	}}
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return string(b), err
}

// images builds Go programs of this module into images of the machine: name to package.
func (m *machine) images(programs map[string]string) {
	m.t.Helper()
	for name, pkg := range programs {
		out := filepath.Join(m.t.TempDir(), filepath.Base(pkg))
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
		build.Env = append(build.Environ(), "CGO_ENABLED=0")
		if b, err := build.CombinedOutput(); err != nil {
			m.t.Fatalf("build %s: %v\n%s", pkg, err, b)
		}
		m.reconcile("image", "build", "--data-dir", m.dir, "-t", name, out)
	}
}

// repo is a git work tree on a machine with the cluster as a remote.
type repo struct {
	m   *machine
	dir string
}

func (m *machine) repo() *repo {
	m.t.Helper()
	r := &repo{m: m, dir: m.t.TempDir()}
	r.git("init", "-q", "-b", "main")
	r.git("config", "user.name", "e2e")
	r.git("config", "user.email", "e2e@example.com")
	m.run("sh", "-c", `cd "$0" && "$1" remote add --data-dir "$2" cluster`, r.dir, m.bin, m.dir)
	return r
}

func (r *repo) git(args ...string) string {
	r.m.t.Helper()
	return r.m.run("git", append([]string{"-C", r.dir}, args...)...)
}

// write changes files of the work tree; an empty content removes the file.
func (r *repo) write(files map[string]string) {
	r.m.t.Helper()
	for name, content := range files {
		path := filepath.Join(r.dir, name)
		if content == "" {
			if err := os.Remove(path); err != nil {
				r.m.t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.m.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			r.m.t.Fatal(err)
		}
	}
}

// push commits what was written and pushes it; it returns what git showed.
func (r *repo) push(message string, args ...string) string {
	r.m.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "-m", message)
	return r.git(append([]string{"push"}, append(args, "cluster", "main")...)...)
}

// healthy waits until the work tree's HEAD is healthy.
func (r *repo) healthy() string {
	r.m.t.Helper()
	return r.m.reconcile("status", "--data-dir", r.m.dir, strings.TrimSpace(r.git("rev-parse", "HEAD")), "--watch")
}

// eventually asks until ok has no error or a minute and a half is over: a busy machine may take its time.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	const limit = 90 * time.Second
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, limit, err)
}
