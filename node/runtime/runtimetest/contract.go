package runtimetest

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"reconcile/node/runtime"
)

// Contract is what the node agent relies on: the real runtime and the fake both pass it.
func Contract(t *testing.T, open func(t *testing.T) *Harness) {
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, h *Harness)
	}{
		{"a sandbox is made once and found again", sandboxes},
		{"exit codes", exitCodes},
		{"signals end containers", signals},
		{"a bad command is a StartError and an attempt", startError},
		{"exec gives the code", execCode},
		{"an end is told once and survives a new process", endsSurvive},
		{"running containers are taken over", takenOver},
		{"removing the sandbox removes all", removeAll},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open(t)) })
	}
}

// Pod makes a sandbox with an own network namespace.
func (h *Harness) Pod(t testing.TB, uid string) runtime.Sandbox {
	t.Helper()
	s, err := h.CreateSandbox(context.Background(), runtime.SandboxConfig{PodUID: uid, Namespace: "default", Name: "p-" + uid, Hostname: "p-" + uid, QoS: "burstable"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Config is of a container that runs the guest with args.
func (h *Harness) Config(uid, name string, args ...string) runtime.ContainerConfig {
	return runtime.ContainerConfig{ID: uid + "-" + name, PodUID: uid, Name: name, ImageID: "sha256:guest", Image: "guest",
		LayerBase: h.LayerBase, Layers: h.Layers, Args: append([]string{"/app"}, args...), Env: []string{"PATH=/"}}
}

// Run starts a container and returns its ID.
func (h *Harness) Run(t testing.TB, c runtime.ContainerConfig) string {
	t.Helper()
	if _, err := h.Start(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// Find returns a container as List tells it.
func (h *Harness) Find(t testing.TB, id string) (runtime.Container, bool) {
	t.Helper()
	list, err := h.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Config.ID == id {
			return c, true
		}
	}
	return runtime.Container{}, false
}

// Ended waits for a container's end.
func (h *Harness) Ended(t testing.TB, id string) runtime.Exit {
	t.Helper()
	var x *runtime.Exit
	Eventually(t, id+" has ended", func() bool {
		c, ok := h.Find(t, id)
		x = c.Exit
		return ok && c.State == runtime.Exited
	})
	return *x
}

// listening waits until the guest's `term` takes signals: an earlier one would end it in another way.
func (h *Harness) listening(t testing.TB, id string) {
	t.Helper()
	Eventually(t, "the program takes signals", func() bool {
		code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "stat", "/tmp/listening"}})
		return err == nil && code == 0
	})
}

func sandboxes(t *testing.T, h *Harness) {
	a := h.Pod(t, "aaaa")
	if b := h.Pod(t, "aaaa"); b.Dir != a.Dir || !b.Created.Equal(a.Created) {
		t.Errorf("a second CreateSandbox made another one: %+v, %+v", a, b)
	}
	h.Reopen(t, func() {})
	list, err := h.Sandboxes(context.Background())
	if err != nil || len(list) != 1 || !list[0].Alive || list[0].Config.Name != "p-aaaa" {
		t.Errorf("Sandboxes after reopening: %+v, %v", list, err)
	}
}

func exitCodes(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	for _, tc := range []struct {
		args []string
		want int
	}{{[]string{"exit", "0"}, 0}, {[]string{"exit", "7"}, 7}} {
		id := h.Run(t, h.Config("aaaa", "c"+tc.args[1], tc.args...))
		if x := h.Ended(t, id); x.Code != tc.want || x.Signal != 0 || x.OOMKilled || x.Finished.Before(x.Started) {
			t.Errorf("%v ended as %+v, want code %d", tc.args, x, tc.want)
		}
	}
}

func signals(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	for _, tc := range []struct {
		verb string
		sig  unix.Signal
		want int
	}{{"term", unix.SIGTERM, 3}, {"sleep", unix.SIGKILL, 137}} {
		id := h.Run(t, h.Config("aaaa", tc.verb, tc.verb, "3"))
		if tc.sig == unix.SIGTERM {
			h.listening(t, id)
		}
		if err := h.Signal(context.Background(), id, tc.sig); err != nil {
			t.Fatal(err)
		}
		x := h.Ended(t, id)
		if x.Code != tc.want {
			t.Errorf("%s ended with %d, want %d", tc.verb, x.Code, tc.want)
		}
		if err := h.Signal(context.Background(), id, tc.sig); err != nil {
			t.Errorf("a signal to an ended container: %v", err)
		}
	}
}

func startError(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	c := h.Config("aaaa", "c")
	c.Args = []string{"/no-such-command"}
	_, err := h.Start(context.Background(), c)
	var se *runtime.StartError
	if !errors.As(err, &se) {
		t.Fatalf("Start of a missing command: %v, want a StartError", err)
	}
	if x := h.Ended(t, c.ID); x.Code != 128 || x.Reason != "StartError" || x.Message == "" {
		t.Errorf("it is kept as %+v", x)
	}
}

func execCode(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "sleep"))
	code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "exit", "7"}})
	if code != 7 || err != nil {
		t.Errorf("Exec = %d, %v, want 7", code, err)
	}
	gone := h.Run(t, h.Config("aaaa", "gone", "exit", "0"))
	h.Ended(t, gone)
	if _, err := h.Exec(context.Background(), gone, runtime.ExecConfig{Args: []string{"/app"}}); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("Exec in an ended container: %v, want ErrNotRunning", err)
	}
	if _, err := h.Exec(context.Background(), "never", runtime.ExecConfig{Args: []string{"/app"}}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("Exec in an unknown container: %v, want ErrNotFound", err)
	}
}

func endsSurvive(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "exit", "7"))
	h.Ended(t, id)
	if e := <-h.Events(); e.ContainerID != id || e.PodUID != "aaaa" {
		t.Errorf("event %+v", e)
	}
	h.Reopen(t, func() {})
	if x := h.Ended(t, id); x.Code != 7 {
		t.Errorf("after reopening the code is %d", x.Code)
	}
	if err := h.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Find(t, id); ok {
		t.Error("a removed container is listed")
	}
	if err := h.Remove(context.Background(), id); err != nil {
		t.Errorf("Remove again: %v", err)
	}
}

func takenOver(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	id := h.Run(t, h.Config("aaaa", "c", "term", "5"))
	h.listening(t, id)
	h.Reopen(t, func() {})
	c, ok := h.Find(t, id)
	if !ok || c.State != runtime.Running || c.Config.Name != "c" {
		t.Fatalf("after reopening: %+v", c)
	}
	if code, err := h.Exec(context.Background(), id, runtime.ExecConfig{Args: []string{"/app", "exit", "4"}}); code != 4 || err != nil {
		t.Errorf("Exec after reopening = %d, %v", code, err)
	}
	if err := h.Signal(context.Background(), id, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if x := h.Ended(t, id); x.Code != 5 {
		t.Errorf("the adopted container ended with %d, want 5", x.Code)
	}
	if e := <-h.Events(); e.ContainerID != id {
		t.Errorf("event %+v", e)
	}
}

func removeAll(t *testing.T, h *Harness) {
	h.Pod(t, "aaaa")
	h.Pod(t, "bbbb")
	h.Run(t, h.Config("aaaa", "one", "stubborn"))
	h.Run(t, h.Config("aaaa", "two", "sleep"))
	other := h.Run(t, h.Config("bbbb", "one", "sleep"))
	if err := h.RemoveSandbox(context.Background(), "aaaa"); err != nil {
		t.Fatal(err)
	}
	list, err := h.List(context.Background())
	if err != nil || len(list) != 1 || list[0].Config.ID != other {
		t.Errorf("List after RemoveSandbox: %+v, %v", list, err)
	}
	if err := h.RemoveSandbox(context.Background(), "aaaa"); err != nil {
		t.Errorf("RemoveSandbox again: %v", err)
	}
}
