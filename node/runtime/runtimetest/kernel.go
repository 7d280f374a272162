package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reconcile/node/runtime"
)

// Kernel is what only a kernel shows.
func Kernel(t *testing.T, open func(t *testing.T) *Harness) {
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, h *Harness)
	}{
		{"log lines in the CRI format", logLines},
		{"long lines are cut, full logs rotated", logRotation},
		{"containers of a pod share net, ipc and uts", shared},
		{"exec streams", execStreams},
		{"exec with a terminal", execTTY},
		{"exec is cut off by the context", execCutOff},
		{"attach", attached},
		{"a container with a terminal", ttyContainer},
		{"out of memory", outOfMemory},
		{"limits in the cgroup", limits},
		{"user, capabilities, read-only root", security},
		{"mounts", mounts},
		{"the termination message", terminationMessage},
		{"an end while nobody looks", endUnseen},
		{"the shim is killed", shimKilled},
		{"the shim is small", shimSmall},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open(t)) })
	}
}

// Output runs a command in a container and returns its standard output; the code must be 0.
func (h *Harness) Output(t testing.TB, id string, args ...string) string {
	t.Helper()
	var out, errb bytes.Buffer
	code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: append([]string{"/app"}, args...), Streams: runtime.Streams{Stdout: &out, Stderr: &errb}})
	if err != nil || code != 0 {
		t.Fatalf("exec %v: code %d, %v, stderr %q", args, code, err, errb.String())
	}
	return strings.TrimSpace(out.String())
}

func (h *Harness) logged(c runtime.ContainerConfig) runtime.ContainerConfig {
	c.LogPath = filepath.Join(h.Dir, c.ID, "0.log")
	return c
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func logLines(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	for verb, stream := range map[string]string{"echo": "stdout", "err": "stderr"} {
		c := h.logged(h.Config("aaaa", verb, verb, "hello", "world"))
		h.Ended(t, h.Run(t, c))
		f := strings.SplitN(strings.TrimSpace(read(t, c.LogPath)), " ", 4)
		if len(f) != 4 || f[1] != stream || f[2] != "F" || f[3] != "hello world" {
			t.Errorf("log of %s: %q", verb, f)
		}
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			t.Error(err)
		}
	}
}

func logRotation(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.logged(h.Config("aaaa", "long", "lines", "1", "40000"))
	h.Ended(t, h.Run(t, c))
	var tags, text string
	for _, l := range strings.Split(strings.TrimSpace(read(t, c.LogPath)), "\n") {
		f := strings.SplitN(l, " ", 4)
		tags += f[2]
		text += f[3]
	}
	if tags != "PPF" || len(text) != 40000 {
		t.Errorf("a line of 40000 bytes: tags %s, %d bytes", tags, len(text))
	}
	c = h.logged(h.Config("aaaa", "many", "lines", "5000", "100"))
	h.Ended(t, h.Run(t, c))
	for _, name := range []string{c.LogPath, c.LogPath + ".1", c.LogPath + ".2"} {
		if st, err := os.Stat(name); err != nil || st.Size() > 64<<10+20<<10 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if _, err := os.Stat(c.LogPath + ".3"); err == nil {
		t.Error("there are more than 3 files")
	}
	if last := strings.TrimSpace(read(t, c.LogPath+".1") + read(t, c.LogPath)); !strings.Contains(last[strings.LastIndexByte(last, '\n')+1:], " 4999 ") {
		t.Error("the last line is not at the end of the log")
	}
}

func shared(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	h.Run(t, h.Config("aaaa", "web", "serve", "8080"))
	id := h.Run(t, h.Config("aaaa", "side", "sleep"))
	Eventually(t, "the neighbour answers on localhost", func() bool {
		var out bytes.Buffer
		code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "get", "http://127.0.0.1:8080/"}, Streams: runtime.Streams{Stdout: &out}})
		return err == nil && code == 0 && out.String() == "hello from p-aaaa\n"
	})
	if got := h.Output(t, id, "host"); got != "p-aaaa" {
		t.Errorf("host name %q", got)
	}
	h.Output(t, id, "write", "/dev/shm/x", "shared memory")
	if got := h.Output(t, "aaaa-web", "cat", "/dev/shm/x"); got != "shared memory" {
		t.Errorf("/dev/shm is not shared: %q", got)
	}
}

func execStreams(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "sleep"))
	var out, errb bytes.Buffer
	code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "cat"},
		Streams: runtime.Streams{Stdin: strings.NewReader(strings.Repeat("in", 50000)), Stdout: &out, Stderr: &errb}})
	if err != nil || code != 0 || out.String() != strings.Repeat("in", 50000) || errb.Len() > 0 {
		t.Errorf("cat: code %d, %v, %d bytes out, stderr %q", code, err, out.Len(), errb.String())
	}
	out.Reset()
	code, err = h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "err", "oops"}, Streams: runtime.Streams{Stdout: &out, Stderr: &errb}})
	if err != nil || code != 0 || out.Len() > 0 || errb.String() != "oops\n" {
		t.Errorf("err: code %d, %v, %q, %q", code, err, out.String(), errb.String())
	}
	var se *runtime.StartError
	if _, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/nothing"}}); !errors.As(err, &se) {
		t.Errorf("a missing command: %v", err)
	}
}

func execTTY(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "sleep"))
	var out bytes.Buffer
	size := make(chan runtime.Size, 1)
	size <- runtime.Size{Width: 120, Height: 40}
	code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "ttysize"}, TTY: true, Streams: runtime.Streams{Stdout: &out, Resize: size}})
	close(size)
	if err != nil || code != 0 || strings.TrimSpace(out.String()) != "40 120" {
		t.Errorf("code %d, %v, %q", code, err, out.String())
	}
	if code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "exit", "3"}, TTY: true, Streams: runtime.Streams{Stdout: &out}}); code != 3 || err != nil {
		t.Errorf("exit code with a terminal: %d, %v", code, err)
	}
}

func execCutOff(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "sleep"))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := h.Exec(ctx, id, runtime.ExecConfig{Args: []string{"/app", "sleep"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Exec = %v, want the context's error", err)
	}
	Eventually(t, "the command is gone", func() bool {
		s, err := h.Stats(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := h.Find(t, id)
		tasks, _ := os.ReadDir("/proc/" + strconv.Itoa(c.PID) + "/task")
		return s.Pids <= uint64(len(tasks))
	})
}

func attached(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.logged(h.Config("aaaa", "c", "cat"))
	c.Stdin, c.StdinOnce = true, true
	id := h.Run(t, c)
	var out bytes.Buffer
	if err := h.Attach(context.Background(), id, runtime.Streams{Stdin: strings.NewReader("over the wire\n"), Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if x := h.Ended(t, id); x.Code != 0 || out.String() != "over the wire\n" {
		t.Errorf("code %d, output %q", x.Code, out.String())
	}
	if !strings.HasSuffix(read(t, c.LogPath), "stdout F over the wire\n") {
		t.Errorf("log %q", read(t, c.LogPath))
	}
}

func ttyContainer(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.logged(h.Config("aaaa", "c", "echo", "on a terminal"))
	c.TTY = true
	if x := h.Ended(t, h.Run(t, c)); x.Code != 0 || !strings.Contains(read(t, c.LogPath), "stdout F on a terminal") {
		t.Errorf("code %d, log %q", x.Code, read(t, c.LogPath))
	}
}

func outOfMemory(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.Config("aaaa", "c", "eat", "200")
	c.Resources.Memory = 32 << 20
	if x := h.Ended(t, h.Run(t, c)); x.Code != 137 || !x.OOMKilled {
		t.Errorf("ended as %+v, want 137 and OOMKilled", x)
	}
	k := h.Config("aaaa", "k", "sleep")
	k.Resources.Memory = 32 << 20
	id := h.Run(t, k)
	if err := h.Signal(context.Background(), id, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if x := h.Ended(t, id); x.Code != 137 || x.OOMKilled {
		t.Errorf("killed, it ended as %+v, want 137 and not OOMKilled", x)
	}
}

func limits(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.Config("aaaa", "c", "sleep")
	c.Resources = runtime.Resources{CPUShares: 102, CPUQuota: 20000, CPUPeriod: 100000, Memory: 64 << 20, Pids: 50}
	id := h.Run(t, c)
	want := map[string]string{"cpu/cpu.shares": "102", "cpu/cpu.cfs_quota_us": "20000", "memory/memory.limit_in_bytes": fmt.Sprint(64 << 20), "pids/pids.max": "50"}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		want = map[string]string{"cpu.weight": "17", "cpu.max": "20000 100000", "memory.max": fmt.Sprint(64 << 20), "pids.max": "50"}
	}
	for file, v := range want {
		if got := h.Output(t, id, "cat", "/sys/fs/cgroup/"+file); got != v {
			t.Errorf("%s = %q in the container, want %q", file, got, v)
		}
	}
	if s, err := h.Stats(context.Background(), id); err != nil || s.CPU == 0 || s.MemoryUsage == 0 || s.MemoryWorkingSet > s.MemoryUsage {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func security(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.Config("aaaa", "plain", "sleep")
	id := h.Run(t, c)
	if got := h.Output(t, id, "caps"); !strings.Contains(got, "CapEff: 00000000a80425fb") || !strings.Contains(got, "Seccomp: 2") {
		t.Errorf("default capabilities and seccomp: %q", got)
	}
	c = h.Config("aaaa", "tight", "sleep")
	c.User, c.Groups, c.ReadOnlyRootFS, c.NoNewPrivileges, c.CapDrop = "worker", []int64{7}, true, true, []string{"ALL"}
	id = h.Run(t, c)
	if got := h.Output(t, id, "id"); got != "1000 1001 [7 1002]" && got != "1000 1001 [1002 7]" {
		t.Errorf("id %q", got)
	}
	if got := h.Output(t, id, "caps"); !strings.Contains(got, "CapEff: 0000000000000000") || !strings.Contains(got, "NoNewPrivs: 1") {
		t.Errorf("dropped: %q", got)
	}
	if code, _ := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "write", "/tmp/x", "y"}}); code == 0 {
		t.Error("the root is writable")
	}
	c = h.Config("aaaa", "open", "sleep")
	c.Privileged = true
	id = h.Run(t, c)
	if got := h.Output(t, id, "caps"); strings.Contains(got, "CapEff: 00000000a80425fb") || !strings.Contains(got, "Seccomp: 0") {
		t.Errorf("privileged: %q", got)
	}
}

func mounts(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	vol := filepath.Join(h.Dir, "vol")
	write(t, filepath.Join(vol, "sub", "f"), "below")
	write(t, filepath.Join(h.Dir, "secret"), "of the host")
	if err := os.Symlink("../../secret", filepath.Join(vol, "escape")); err != nil {
		t.Fatal(err)
	}
	c := h.Config("aaaa", "c", "sleep")
	c.Mounts = []runtime.Mount{{Source: vol, Target: "/vol", ReadOnly: true}, {Source: vol, SubPath: "sub", Target: "/sub"}, {Source: vol, SubPath: "new/dir", Target: "/new"}}
	id := h.Run(t, c)
	if got := h.Output(t, id, "cat", "/vol/sub/f", "/sub/f"); got != "belowbelow" {
		t.Errorf("contents %q", got)
	}
	h.Output(t, id, "write", "/sub/g", "written")
	if got := read(t, filepath.Join(vol, "sub", "g")); got != "written" {
		t.Errorf("what the container wrote: %q", got)
	}
	if code, _ := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "write", "/vol/x", "y"}}); code == 0 {
		t.Error("a read-only mount is writable")
	}
	bad := h.Config("aaaa", "bad", "cat", "/x")
	bad.Mounts = []runtime.Mount{{Source: vol, SubPath: "escape", Target: "/x"}}
	bad = h.logged(bad)
	if _, err := h.Start(context.Background(), bad); err == nil {
		h.Ended(t, bad.ID)
		if strings.Contains(read(t, bad.LogPath), "of the host") {
			t.Error("a link in a volume led out of it")
		}
	}
	if err := h.RemoveSandbox(context.Background(), "aaaa"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(vol, "sub", "f")); got != "below" {
		t.Error("removing the pod touched a folder of the host")
	}
}

func terminationMessage(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.Config("aaaa", "c", "write", "/dev/termination-log", "because")
	c.TerminationLog = "/dev/termination-log"
	if x := h.Ended(t, h.Run(t, c)); x.Message != "because" {
		t.Errorf("message %q of %+v", x.Message, x)
	}
}

func endUnseen(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "sleep"))
	c, _ := h.Find(t, id)
	h.Reopen(t, func() {
		if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		Eventually(t, "the process is gone", func() bool { return unix.Kill(c.PID, 0) != nil })
	})
	if x := h.Ended(t, id); x.Code != 137 || x.Signal != 9 || x.Reason != "" {
		t.Errorf("ended as %+v, want what the shim wrote: 137 by signal 9", x)
	}
}

// shim finds the PID of a container's shim: the parent of its first process.
func (h *Harness) shim(t testing.TB, id string) int {
	t.Helper()
	c, _ := h.Find(t, id)
	s := read(t, fmt.Sprintf("/proc/%d/stat", c.PID))
	ppid, err := strconv.Atoi(strings.Fields(s[strings.LastIndexByte(s, ')')+1:])[1])
	if err != nil || ppid <= 1 {
		t.Fatalf("parent of %d: %d, %v", c.PID, ppid, err)
	}
	if comm := read(t, fmt.Sprintf("/proc/%d/cmdline", ppid)); !strings.HasPrefix(comm, "reconcile-shim") {
		t.Fatalf("the container's parent is %q", comm)
	}
	return ppid
}

func shimKilled(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	for _, reopen := range []bool{false, true} {
		id := h.Run(t, h.Config("aaaa", fmt.Sprint("c", reopen), "sleep"))
		if reopen {
			h.Reopen(t, func() {})
		}
		c, _ := h.Find(t, id)
		if err := unix.Kill(h.shim(t, id), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if x := h.Ended(t, id); x.Code != 137 || x.Reason != "ShimDied" {
			t.Errorf("ended as %+v", x)
		}
		Eventually(t, "the container is gone too", func() bool { return unix.Kill(c.PID, 0) != nil })
	}
}

func shimSmall(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.logged(h.Config("aaaa", "c", "serve", "8080"))
	id := h.Run(t, c)
	Eventually(t, "it logs", func() bool { b, err := os.ReadFile(c.LogPath); return err == nil && len(b) > 0 })
	for _, l := range strings.Split(read(t, fmt.Sprintf("/proc/%d/status", h.shim(t, id))), "\n") {
		if strings.HasPrefix(l, "RssAnon:") {
			f := strings.Fields(l)
			kib, err := strconv.Atoi(f[1])
			if err != nil || kib > 2048 {
				t.Errorf("%s, want at most 2 MiB", l)
			}
			t.Logf("shim %s", l)
		}
	}
}
