// Package runtimefake behaves as containers do, in memory: the semantic fake of the runtime, which passes the same contract.
//
// It owns a small understanding of commands: the guest program's verbs of package runtimetest (exit, sleep, term, stubborn, serve)
// and nothing more; any other program runs until it is killed. It starts no process and reads no clock but time.Now, so it
// works under testing/synctest.
//
// How data passes through: Start enters a container, a goroutine a container ends it when its command says so, Events tells.
package runtimefake

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"reconcile/node/runtime"
)

// Runtime is the fake. Its state is in Disk, which outlives it as a disk would.
type Runtime struct {
	disk   *Disk
	events chan runtime.Event
	closed bool
}

// Disk is what the containers of a fake machine are: they run on while no Runtime is open.
type Disk struct {
	mu         sync.Mutex
	root       string
	sandboxes  map[string]runtime.Sandbox
	containers map[string]*container
	watcher    *Runtime
	// Exec answers commands; nil answers as the guest program does.
	Exec func(c runtime.Container, args []string) (code int, output string)
	// StartDelay is how long a start takes, RemoveDelay how long it takes to remove a sandbox.
	StartDelay, RemoveDelay time.Duration
}

type container struct {
	c    runtime.Container
	told bool
}

// NewDisk returns a machine without containers; root is for the sandboxes' folders.
func NewDisk(root string) *Disk {
	return &Disk{root: root, sandboxes: map[string]runtime.Sandbox{}, containers: map[string]*container{}}
}

// Open takes over what is on the disk.
func Open(d *Disk) *Runtime {
	r := &Runtime{disk: d, events: make(chan runtime.Event, 4096)}
	d.mu.Lock()
	d.watcher = r
	d.mu.Unlock()
	return r
}

var _ runtime.Runtime = (*Runtime)(nil)

// Close implements runtime.Runtime.
func (r *Runtime) Close() error {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	if r.disk.watcher == r {
		r.disk.watcher = nil
	}
	if !r.closed {
		r.closed = true
		close(r.events)
	}
	return nil
}

// Events implements runtime.Runtime.
func (r *Runtime) Events() <-chan runtime.Event { return r.events }

// CreateSandbox implements runtime.Runtime.
func (r *Runtime) CreateSandbox(_ context.Context, c runtime.SandboxConfig) (runtime.Sandbox, error) {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.sandboxes[c.PodUID]; ok && s.Alive {
		return s, nil
	}
	s := runtime.Sandbox{Config: c, Dir: d.root + "/pods/" + c.PodUID, NetNS: "/fake/" + c.PodUID, Alive: true, Created: time.Now()}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return s, err
	}
	d.sandboxes[c.PodUID] = s
	return s, nil
}

// RemoveSandbox implements runtime.Runtime.
func (r *Runtime) RemoveSandbox(_ context.Context, uid string) error {
	d := r.disk
	if d.RemoveDelay > 0 {
		time.Sleep(d.RemoveDelay)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, c := range d.containers {
		if c.c.Config.PodUID == uid {
			delete(d.containers, id)
		}
	}
	delete(d.sandboxes, uid)
	return runtime.RemoveTree(d.root + "/pods/" + uid) // volumes may be mounted below it
}

// Sandboxes implements runtime.Runtime.
func (r *Runtime) Sandboxes(context.Context) ([]runtime.Sandbox, error) {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []runtime.Sandbox
	for _, s := range d.sandboxes {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Config.PodUID < out[j].Config.PodUID })
	return out, nil
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(_ context.Context, c runtime.ContainerConfig) (runtime.Container, error) {
	d := r.disk
	if d.StartDelay > 0 {
		time.Sleep(d.StartDelay)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.sandboxes[c.PodUID]; !ok || !s.Alive {
		return runtime.Container{}, fmt.Errorf("start container %s: sandbox: %w", c.Name, runtime.ErrNotFound)
	}
	if _, ok := d.containers[c.ID]; ok {
		return runtime.Container{}, fmt.Errorf("start container %s: it is there already", c.ID)
	}
	now := time.Now()
	x := &container{c: runtime.Container{Config: c, State: runtime.Running, PID: 1000 + len(d.containers), Started: now}}
	if len(c.Args) > 0 && strings.HasPrefix(c.Args[0], "/no-such") {
		msg := fmt.Sprintf("exec: %q: no such file or directory", c.Args[0])
		x.c.State, x.told = runtime.Exited, true
		x.c.Exit = &runtime.Exit{Code: 128, Started: now, Finished: now, Reason: "StartError", Message: msg}
		d.containers[c.ID] = x
		return runtime.Container{}, fmt.Errorf("start container %s: %w", c.Name, &runtime.StartError{Message: msg})
	}
	d.containers[c.ID] = x
	if code, ok := exits(c.Args); ok {
		d.end(x, code, 0, false)
	}
	return x.c, nil
}

// exits tells whether a command ends by itself, and how.
func exits(args []string) (int, bool) {
	if len(args) == 3 && args[1] == "exit" {
		code, err := strconv.Atoi(args[2])
		return code, err == nil
	}
	if len(args) > 1 {
		switch args[1] {
		case "sleep", "serve", "term", "stubborn", "listen":
			return 0, false
		}
		return 0, true
	}
	return 0, false
}

// end ends a container. The caller holds the lock.
func (d *Disk) end(x *container, code, signal int, oom bool) {
	if x.c.State == runtime.Exited {
		return
	}
	x.c.State, x.c.PID = runtime.Exited, 0
	x.c.Exit = &runtime.Exit{Code: code, Signal: signal, OOMKilled: oom, Started: x.c.Started, Finished: time.Now()}
	if d.watcher != nil {
		d.watcher.events <- runtime.Event{PodUID: x.c.Config.PodUID, ContainerID: x.c.Config.ID}
	}
}

// End ends a running container as a test wishes, and tells whether there was one.
func (d *Disk) End(id string, code int, oom bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.containers[id]
	if ok {
		d.end(x, code, 0, oom)
	}
	return ok
}

// Reboot ends everything as a power cut does.
func (d *Disk) Reboot() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for uid, s := range d.sandboxes {
		s.Alive = false
		d.sandboxes[uid] = s
	}
	for _, x := range d.containers {
		if x.c.State == runtime.Running {
			x.c.State, x.c.PID = runtime.Exited, 0
			x.c.Exit = &runtime.Exit{Code: 255, Started: x.c.Started, Finished: time.Now(), Reason: "Rebooted"}
		}
	}
}

// Signal implements runtime.Runtime.
func (r *Runtime) Signal(_ context.Context, id string, sig os.Signal) error {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.containers[id]
	if !ok {
		return fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	s, _ := sig.(syscall.Signal)
	verb := ""
	if a := x.c.Config.Args; len(a) > 1 {
		verb = a[1]
	}
	switch {
	case s == syscall.SIGKILL:
		d.end(x, 137, 9, false)
	case s == syscall.SIGTERM && verb == "term":
		code, _ := strconv.Atoi(x.c.Config.Args[2])
		d.end(x, code, 0, false)
	case s == syscall.SIGTERM && verb != "stubborn":
		d.end(x, 143, 15, false)
	}
	return nil
}

// Remove implements runtime.Runtime.
func (r *Runtime) Remove(_ context.Context, id string) error {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.containers, id)
	return nil
}

// List implements runtime.Runtime.
func (r *Runtime) List(context.Context) ([]runtime.Container, error) {
	d := r.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []runtime.Container
	for _, x := range d.containers {
		out = append(out, x.c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Config.ID < out[j].Config.ID })
	return out, nil
}

// Exec implements runtime.Runtime.
func (r *Runtime) Exec(_ context.Context, id string, e runtime.ExecConfig) (int, error) {
	d := r.disk
	d.mu.Lock()
	x, ok := d.containers[id]
	answer := d.Exec
	var c runtime.Container
	if ok {
		c = x.c
	}
	d.mu.Unlock()
	if !ok {
		return 0, fmt.Errorf("container %s: %w", id, runtime.ErrNotFound)
	}
	if c.State != runtime.Running {
		return 0, fmt.Errorf("exec in container %s: %w", id, runtime.ErrNotRunning)
	}
	if answer == nil {
		code, _ := exits(e.Args)
		return code, nil
	}
	code, out := answer(c, e.Args)
	if e.Stdout != nil {
		_, _ = e.Stdout.Write([]byte(out))
	}
	return code, nil
}

// Attach implements runtime.Runtime: nothing is ever written.
func (r *Runtime) Attach(ctx context.Context, id string, _ runtime.Streams) error {
	list, err := r.List(ctx)
	for _, c := range list {
		if c.Config.ID == id && c.State == runtime.Running {
			<-ctx.Done()
			return ctx.Err()
		}
	}
	if err == nil {
		err = fmt.Errorf("attach to container %s: %w", id, runtime.ErrNotRunning)
	}
	return err
}

// Stats implements runtime.Runtime.
func (r *Runtime) Stats(context.Context, string) (runtime.Stats, error) {
	return runtime.Stats{At: time.Now()}, nil
}
