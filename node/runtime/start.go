package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

// startTimeout ends a start that hangs.
const startTimeout = time.Minute

// shimRef names the processes of a running container for good.
type shimRef struct {
	pidStart  uint64
	shim      int
	shimStart uint64
	cgroup    string
}

// stored is the caller's part of config.json.
type stored struct {
	Config ContainerConfig `json:"config"`
	Cgroup string          `json:"cgroup"`
}

// Start implements Runtime.
func (h *Host) Start(ctx context.Context, c ContainerConfig) (Container, error) {
	if err := checkName("container ID", c.ID); err != nil {
		return Container{}, err
	}
	unlock := h.locks.lock(c.ID)
	defer unlock()
	if _, err := h.get(c.ID); err == nil {
		return Container{}, fmt.Errorf("start container %s: it is there already", c.ID)
	}
	sb, err := h.sandbox(c.PodUID)
	if err != nil {
		return Container{}, fmt.Errorf("start container %s: %w", c.Name, err)
	}
	if !sb.Alive {
		return Container{}, fmt.Errorf("start container %s: the pod's sandbox is not alive", c.Name)
	}
	cgroup := h.containerCgroup(h.podCgroup(sb.Config), c.ID)
	if err := h.prepare(c, sb, cgroup); err != nil {
		return Container{}, h.failed(c, cgroup, err)
	}
	cmd, err := h.spawn(ctx, c.ID)
	if err != nil {
		return Container{}, h.failed(c, cgroup, err)
	}
	return h.track(c, cgroup, cmd)
}

// prepare writes the container's folder.
func (h *Host) prepare(c ContainerConfig, sb Sandbox, cgroup string) error {
	dir := h.dir(c.ID)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	if c.LogPath != "" {
		if err := os.MkdirAll(filepath.Dir(c.LogPath), 0o755); err != nil {
			return err
		}
	}
	if c.TerminationLog != "" {
		f := filepath.Join(dir, wire.TerminationLog)
		if err := errors.Join(os.WriteFile(f, nil, 0o600), os.Chmod(f, 0o666)); err != nil {
			return err
		}
	}
	p := placement{dir: dir, cgroup: cgroup, shm: sb.Shm, net: sb.NetNS, uts: filepath.Join(h.nsDir(c.PodUID), "uts"), unified: h.cgroups.unified, bounding: h.bounding}
	if !sb.Config.HostIPC {
		p.ipc = filepath.Join(h.nsDir(c.PodUID), "ipc")
	}
	spec, subs, err := newSpec(c, p)
	if err != nil {
		return err
	}
	own, err := json.Marshal(stored{Config: c, Cgroup: cgroup})
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, wire.ConfigFile), bundle.Bundle{Container: own, Spec: spec, Helper: bundle.Helper{
		Shim: h.shim, LayerBase: c.LayerBase, Layers: c.Layers, User: c.User, Groups: c.Groups, SubPaths: subs,
		LogPath: c.LogPath, LogMaxBytes: h.cfg.LogMaxBytes, LogMaxFiles: h.cfg.LogMaxFiles,
		OOMFile: h.cgroups.oomFile(cgroup), ShimCgroups: h.shimCgroups,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
	}})
}

// spawn runs the helper and waits until it has become the shim. The child gets files only, no pipe of ours but the status pipe,
// which closes at the execve: so nobody can hang on a container that lives.
func (h *Host) spawn(ctx context.Context, id string) (*exec.Cmd, error) {
	dir := h.dir(id)
	logf, err := os.OpenFile(filepath.Join(dir, wire.HelperLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logf.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(h.helper, "run", dir)
	cmd.Stdout, cmd.Stderr = logf, logf
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=2", "GOGC=off"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C of the agent's terminal is not for containers
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("run the runtime helper: %w", err), w.Close())
	}
	_ = w.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	answer, err := io.ReadAll(r)
	if err == nil && string(answer) == wire.OK {
		return cmd, nil
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("the runtime helper took too long: %w", ctx.Err())
	}
	if msg := strings.TrimPrefix(string(answer), wire.OK); msg != "" {
		return nil, &StartError{Message: strings.ReplaceAll(msg, "\n", " ")}
	}
	tail, _ := os.ReadFile(filepath.Join(dir, wire.HelperLog))
	return nil, fmt.Errorf("the runtime helper died: %s", lastLine(tail))
}

func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	return string(b)
}

// failed clears away what a start left. A StartError, whose cause is the container's own, is kept as an ended container with code
// 128, so that it counts as an attempt.
func (h *Host) failed(c ContainerConfig, cgroup string, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(h.cgroups.killCgroup(ctx, cgroup), h.cgroups.removeCgroup(ctx, cgroup), unmountBelow(h.dir(c.ID)))
	var se *StartError
	if errors.As(cause, &se) && err == nil {
		now := time.Now().UTC()
		x := &Exit{Code: 128, Started: now, Finished: now, Reason: "StartError", Message: se.Message}
		if err = errors.Join(writeJSON(filepath.Join(h.dir(c.ID), wire.ExitFile), x), h.writeStored(c, cgroup)); err == nil {
			e := &entry{c: Container{Config: c, State: Exited, Exit: x}, ended: make(chan struct{}), done: true}
			close(e.ended)
			h.mu.Lock()
			h.containers[c.ID] = e
			h.mu.Unlock()
			return fmt.Errorf("start container %s: %w", c.Name, se)
		}
	}
	return fmt.Errorf("start container %s: %w", c.Name, errors.Join(cause, err, RemoveTree(h.dir(c.ID))))
}

// writeStored makes sure that a failed container can be read back, also when its spec could not be made.
func (h *Host) writeStored(c ContainerConfig, cgroup string) error {
	path := filepath.Join(h.dir(c.ID), wire.ConfigFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	own, err := json.Marshal(stored{Config: c, Cgroup: cgroup})
	if err != nil {
		return err
	}
	return writeJSON(path, bundle.Bundle{Container: own})
}

// track enters a started container and watches it.
func (h *Host) track(c ContainerConfig, cgroup string, cmd *exec.Cmd) (Container, error) {
	var st bundle.State
	if err := readJSON(filepath.Join(h.dir(c.ID), wire.StateFile), &st); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return Container{}, h.failed(c, cgroup, err)
	}
	e := newEntry(c, cgroup, st)
	h.mu.Lock()
	h.containers[c.ID] = e
	out := e.c
	h.mu.Unlock()
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		h.watchChild(e, cmd)
	}()
	return out, nil
}

func newEntry(c ContainerConfig, cgroup string, st bundle.State) *entry {
	return &entry{
		c:     Container{Config: c, State: Running, PID: st.PID, Started: time.Unix(0, st.Started).UTC()},
		shim:  shimRef{pidStart: st.PIDStart, shim: st.Shim, shimStart: st.ShimStart, cgroup: cgroup},
		ended: make(chan struct{}),
	}
}
