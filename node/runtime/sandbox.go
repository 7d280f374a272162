package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sort"
	"strconv"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// sandboxFile is the sandbox's configuration in its folder.
const sandboxFile = "sandbox.json"

// CreateSandbox implements Runtime.
func (h *Host) CreateSandbox(_ context.Context, c SandboxConfig) (Sandbox, error) {
	if err := checkName("pod UID", c.PodUID); err != nil {
		return Sandbox{}, err
	}
	unlock := h.locks.lock("sandbox/" + c.PodUID)
	defer unlock()
	if s, err := h.sandbox(c.PodUID); err == nil && s.Alive {
		return s, nil
	}
	s := h.newSandbox(c, time.Now())
	err := h.makeSandbox(s)
	if err != nil {
		return Sandbox{}, fmt.Errorf("create sandbox of pod %s/%s: %w", c.Namespace, c.Name, errors.Join(err, h.unpin(c.PodUID)))
	}
	return h.sandbox(c.PodUID)
}

func (h *Host) newSandbox(c SandboxConfig, now time.Time) Sandbox {
	s := Sandbox{Config: c, Created: now, Dir: filepath.Join(h.cfg.Root, "pods", c.PodUID)}
	s.Shm = filepath.Join(h.nsDir(c.PodUID), "shm")
	if !c.HostNetwork {
		s.NetNS = filepath.Join(h.nsDir(c.PodUID), "net")
	}
	return s
}

func (h *Host) makeSandbox(s Sandbox) error {
	if err := os.MkdirAll(s.Dir, 0o750); err != nil {
		return err
	}
	if err := h.cgroups.podCgroup(h.podCgroup(s.Config), s.Config.Resources); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Shm, 0o755); err != nil {
		return err
	}
	size := s.Config.ShmBytes
	if size == 0 {
		size = 64 << 20
	}
	if !mounted(s.Shm) {
		if err := unix.Mount("shm", s.Shm, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "mode=1777,size="+strconv.FormatInt(size, 10)); err != nil {
			return fmt.Errorf("mount /dev/shm: %w", err)
		}
	}
	if err := h.pin(s.Config); err != nil {
		return err
	}
	return writeJSON(filepath.Join(s.Dir, sandboxFile), storedSandbox{Config: s.Config, Created: s.Created})
}

type storedSandbox struct {
	Config  SandboxConfig `json:"config"`
	Created time.Time     `json:"created"`
}

func mounted(path string) bool {
	ok, err := mountinfo.Mounted(path)
	return err == nil && ok
}

func (h *Host) nsDir(uid string) string { return filepath.Join(h.cfg.RunDir, "ns", uid) }

func (h *Host) podCgroup(c SandboxConfig) string {
	p := filepath.Join(h.cfg.CgroupPrefix, "kubepods")
	if c.QoS == "burstable" || c.QoS == "besteffort" {
		p = filepath.Join(p, c.QoS)
	}
	return filepath.Join(p, "pod"+c.PodUID)
}

// pinned are the namespaces of a pod and what makes them.
func pinned(c SandboxConfig) map[string]int {
	out := map[string]int{"uts": unix.CLONE_NEWUTS}
	if !c.HostNetwork {
		out["net"] = unix.CLONE_NEWNET
	}
	if !c.HostIPC {
		out["ipc"] = unix.CLONE_NEWIPC
	}
	return out
}

// pin makes the pod's namespaces on a thread of their own and binds each to a file, which keeps it without any process.
func (h *Host) pin(c SandboxConfig) error {
	dir := h.nsDir(c.PodUID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	flags := 0
	for name, f := range pinned(c) {
		flags |= f
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o400); err != nil {
			return err
		}
	}
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with this goroutine, since it is in other namespaces than the rest.
		goruntime.LockOSThread()
		done <- pinThread(c, dir, flags)
	}()
	return <-done
}

func pinThread(c SandboxConfig, dir string, flags int) error {
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make the pod's namespaces: %w", err)
	}
	if c.Hostname != "" {
		if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
			return fmt.Errorf("set the pod's host name: %w", err)
		}
	}
	if !c.HostNetwork {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up the pod's loopback: %w", err)
		}
	}
	for name := range pinned(c) {
		if err := unix.Mount("/proc/thread-self/ns/"+name, filepath.Join(dir, name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin the pod's %s namespace: %w", name, err)
		}
	}
	return nil
}

// loopbackUp brings up lo in the calling thread's network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// unpin lets the pod's namespaces and /dev/shm go.
func (h *Host) unpin(uid string) error { return RemoveTree(h.nsDir(uid)) }

func (h *Host) sandbox(uid string) (Sandbox, error) {
	var st storedSandbox
	if err := readJSON(filepath.Join(h.cfg.Root, "pods", uid, sandboxFile), &st); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return Sandbox{}, fmt.Errorf("sandbox of pod %s: %w", uid, ErrNotFound)
		}
		return Sandbox{}, err
	}
	s := h.newSandbox(st.Config, st.Created)
	s.Alive = mounted(s.Shm)
	for name := range pinned(st.Config) {
		s.Alive = s.Alive && mounted(filepath.Join(h.nsDir(uid), name))
	}
	return s, nil
}

// Sandboxes implements Runtime.
func (h *Host) Sandboxes(context.Context) ([]Sandbox, error) {
	entries, err := os.ReadDir(filepath.Join(h.cfg.Root, "pods"))
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var out []Sandbox
	for _, e := range entries {
		s, err := h.sandbox(e.Name())
		if errors.Is(err, ErrNotFound) {
			// A start that was cut off before the sandbox was whole: only its name is known, enough to remove it.
			s = h.newSandbox(SandboxConfig{PodUID: e.Name()}, time.Time{})
		} else if err != nil {
			h.cfg.Log.Warn("unreadable sandbox", "pod", e.Name(), "err", err)
			continue
		}
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Config.PodUID < out[j].Config.PodUID })
	return out, nil
}

// RemoveSandbox implements Runtime. Order: containers, namespaces, cgroup, then the folder, when nothing is mounted below it.
func (h *Host) RemoveSandbox(ctx context.Context, uid string) error {
	if err := checkName("pod UID", uid); err != nil {
		return err
	}
	for _, c := range h.containersOf(uid) {
		if err := h.Remove(ctx, c); err != nil {
			return err
		}
	}
	unlock := h.locks.lock("sandbox/" + uid)
	defer unlock()
	s, err := h.sandbox(uid)
	if err != nil {
		s = h.newSandbox(SandboxConfig{PodUID: uid}, time.Time{})
	}
	err = errors.Join(h.unpin(uid), RemoveTree(s.Dir))
	for _, qos := range []string{"guaranteed", "burstable", "besteffort"} {
		err = errors.Join(err, h.cgroups.removeCgroup(ctx, h.podCgroup(SandboxConfig{PodUID: uid, QoS: qos})))
	}
	if err != nil {
		return fmt.Errorf("remove sandbox of pod %s: %w", uid, err)
	}
	return nil
}

// writeJSON writes a file that is not there yet, whole or not at all.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
