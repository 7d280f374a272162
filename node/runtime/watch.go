package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

// watchChild waits for the shim of a container that this process started, and reaps it. When the runtime closes it leaves the
// shim to the init process.
func (h *Host) watchChild(e *entry, cmd *exec.Cmd) {
	if err := h.untilShimGone(e); err != nil {
		return
	}
	_ = cmd.Wait()
	h.finish(e)
}

// watchAdopted waits for the shim of a container that an earlier process started.
func (h *Host) watchAdopted(e *entry) {
	if err := h.untilShimGone(e); err == nil {
		h.finish(e)
	}
}

// untilShimGone blocks until the container's shim has ended (nil) or the runtime closes.
func (h *Host) untilShimGone(e *entry) error {
	return untilGone(h.ctx, kernelProcesses{}, e.shim.shim, e.shim.shimStart, h.cfg.Log.With("container", e.c.Config.ID))
}

// finish notes how a container ended, tells it, and frees what only a running container needs. The root is unmounted and the
// writable layer removed; the folder with the exit code stays until Remove.
func (h *Host) finish(e *entry) {
	h.mu.Lock()
	if e.done {
		h.mu.Unlock()
		return
	}
	e.done = true
	id, uid, ref, pid := e.c.Config.ID, e.c.Config.PodUID, e.shim, e.c.PID
	h.mu.Unlock()
	x := h.readExit(id)
	keep := x == nil
	if x == nil {
		x = h.mourn(id, pid, ref, e.c.Started)
	}
	if m := h.terminationMessage(e.c.Config); m != "" && x.Message == "" {
		x.Message, keep = m, true
	}
	if c := e.c.Config; c.MessageFromLog && x.Code != 0 && x.Message == "" {
		x.Message, keep = logEnd(c.LogPath), true
	}
	oom := int(count(h.cgroups.oomFile(ref.cgroup), "oom_kill"))
	if keep {
		if err := writeJSON(filepath.Join(h.dir(id), wire.ExitFile), x); err != nil {
			h.cfg.Log.Warn("cannot keep a container's exit code", "container", id, "err", err)
		}
	}
	h.mu.Lock()
	e.c.State, e.c.Exit, e.c.PID, e.c.OOMKills = Exited, x, 0, oom
	h.mu.Unlock()
	select {
	case h.events <- Event{PodUID: uid, ContainerID: id}:
	case <-h.ctx.Done():
	}
	if err := h.free(id, ref.cgroup); err != nil {
		h.cfg.Log.Warn("cannot free what an ended container held", "container", id, "err", err)
	}
	close(e.ended)
}

func (h *Host) readExit(id string) *Exit {
	var x Exit
	if err := readJSON(filepath.Join(h.dir(id), wire.ExitFile), &x); err != nil {
		return nil
	}
	return &x
}

// mourn ends a container whose shim died without a word: its exit code and output are lost, so it is killed and counts as killed.
func (h *Host) mourn(id string, pid int, ref shimRef, started time.Time) *Exit {
	if err := signalProcess(pid, ref.pidStart, unix.SIGKILL); err != nil && !errors.Is(err, errGone) {
		h.cfg.Log.Warn("cannot kill a container whose shim died", "container", id, "err", err)
	}
	return &Exit{Code: 137, Signal: 9, Started: started, Finished: time.Now().UTC(), Reason: "ShimDied"}
}

// messageMax is the most that is kept of a termination message.
const messageMax = 4096

func (h *Host) terminationMessage(c ContainerConfig) string {
	if c.TerminationLog == "" {
		return ""
	}
	f, err := os.Open(filepath.Join(h.dir(c.ID), wire.TerminationLog))
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, messageMax)
	n, _ := f.Read(b)
	return strings.ToValidUTF8(string(b[:n]), "")
}

// free ends what may be left of the container and gives back mounts, writable layer and cgroup.
func (h *Host) free(id, cgroup string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dir := h.dir(id)
	var errs []error
	if cgroup != "" {
		errs = append(errs, h.cgroups.killCgroup(ctx, cgroup), h.cgroups.removeCgroup(ctx, cgroup))
	}
	if err := unmountAll(dir); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, d := range []string{wire.RootFS, "upper", "work", wire.LibcontainerID, "subpaths"} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, d)))
	}
	if err := os.Remove(filepath.Join(dir, wire.AttachSock)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// adopt reads every container on disk and takes it over: running ones are watched, ended ones are known with their exit codes.
func (h *Host) adopt() error {
	entries, err := os.ReadDir(filepath.Join(h.cfg.Root, "containers"))
	if err != nil {
		return err
	}
	boot := bootID()
	for _, d := range entries {
		err := h.adoptOne(d.Name(), boot)
		if unreadable(err) {
			// To take it for a ruin would remove a container that may well run.
			return fmt.Errorf("adopt container %s: %w", d.Name(), err)
		}
		if err != nil {
			h.cfg.Log.Warn("remove what is left of a container that never started", "container", d.Name(), "err", err)
			if err := RemoveTree(h.dir(d.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreadable tells whether a file that is there could not be read, so that nothing is known.
func unreadable(err error) bool {
	var path *os.PathError
	return errors.As(err, &path) && !errors.Is(err, os.ErrNotExist)
}

func (h *Host) adoptOne(id, boot string) error {
	var b bundle.Bundle
	if err := readJSON(filepath.Join(h.dir(id), wire.ConfigFile), &b); err != nil {
		return err
	}
	var own stored
	if err := json.Unmarshal(b.Container, &own); err != nil {
		return err
	}
	var st bundle.State
	stErr := readJSON(filepath.Join(h.dir(id), wire.StateFile), &st)
	if unreadable(stErr) {
		return stErr
	}
	started := stErr == nil
	e := newEntry(own.Config, own.Cgroup, st)
	h.containers[id] = e
	if x := h.readExit(id); x != nil && !started {
		// A start that failed: nothing was ever running.
		e.c.State, e.c.Exit, e.c.PID, e.done = Exited, x, 0, true
		close(e.ended)
		return nil
	}
	if !started {
		delete(h.containers, id)
		return errors.Join(stErr, h.free(id, own.Cgroup))
	}
	if st.BootID != boot {
		if h.readExit(id) == nil {
			_ = writeJSON(filepath.Join(h.dir(id), wire.ExitFile), Exit{Code: 255, Started: e.c.Started, Finished: time.Now().UTC(), Reason: "Rebooted"})
		}
	} else if err := (kernelProcesses{}).look(st.Shim, st.ShimStart); !errors.Is(err, errGone) {
		// It lives, or nobody can say: the watch finds out.
		h.wg.Add(1)
		go func() {
			defer h.wg.Done()
			h.watchAdopted(e)
		}()
		return nil
	}
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		h.finish(e)
	}()
	// Its end is a fact before Open returns: a caller must not see it run.
	for !h.ended(e) {
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (h *Host) ended(e *entry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return e.c.State == Exited
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
