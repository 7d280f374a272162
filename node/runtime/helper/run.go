//go:build linux && cgo

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runc/libcontainer/utils"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

// run starts the container and becomes its shim. It returns only errors, after undoing what it did.
func run(status *os.File) error {
	if err := reserve(); err != nil {
		return err
	}
	var b bundle.Bundle
	raw, err := os.ReadFile(wire.ConfigFile)
	if err != nil {
		return fmt.Errorf("read the container's configuration: %w", err)
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return fmt.Errorf("read the container's configuration: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	leaveCgroup(b.Helper.ShimCgroups)
	if err := mountRoot(dir, b.Helper); err != nil {
		return err
	}
	if err := start(dir, b, status); err != nil {
		undo(dir)
		return err
	}
	return nil
}

// leaveCgroup moves this process, and so the shim, out of the agent's cgroup: who kills that kills no container. A hierarchy in
// which it does not work is left.
func leaveCgroup(files []string) {
	for _, f := range files {
		if err := os.WriteFile(f, []byte("0"), 0); err != nil {
			fmt.Fprintln(os.Stderr, "move the shim to a cgroup of its own:", err)
		}
	}
}

// mountRoot mounts the overlay of the image's layers. The lower folders are named relative to LayerBase: mount(2) takes one page.
func mountRoot(dir string, h bundle.Helper) error {
	root, upper, work := filepath.Join(dir, wire.RootFS), filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{root, upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make the container's root: %w", err)
		}
	}
	if len(h.Layers) == 0 {
		return errors.New("mount the container's root: the image has no layers")
	}
	if err := os.Chdir(h.LayerBase); err != nil {
		return fmt.Errorf("mount the container's root: %w", err)
	}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace // the options are a list with commas
	opts := "lowerdir=" + strings.Join(h.Layers, ":") + ",upperdir=" + escape(upper) + ",workdir=" + escape(work)
	if err := unix.Mount("overlay", root, "overlay", 0, opts); err != nil {
		return fmt.Errorf("mount the container's root of %d layers: %w", len(h.Layers), err)
	}
	return os.Chdir(dir)
}

func undo(dir string) {
	if c, err := libcontainer.Load(dir, wire.LibcontainerID); err == nil {
		_ = c.Signal(unix.SIGKILL)
		_ = c.Destroy()
	}
	_ = unix.Unmount(filepath.Join(dir, wire.RootFS), unix.MNT_DETACH)
}

func start(dir string, b bundle.Bundle, status *os.File) error {
	if err := bindSubPaths(dir, b); err != nil {
		return err
	}
	b.Spec.Root = &specs.Root{Path: filepath.Join(dir, wire.RootFS), Readonly: b.Spec.Root != nil && b.Spec.Root.Readonly}
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: wire.LibcontainerID, Spec: b.Spec, NoPivotRoot: onInitramfs()})
	if err != nil {
		return fmt.Errorf("make the container's configuration: %w", err)
	}
	cfg.OomScoreAdj = clampOOM(cfg.OomScoreAdj)
	process, err := newProcess(b.Spec, b.Helper)
	if err != nil {
		return err
	}
	process.Init = true
	ends, err := connect(process, b.Helper)
	if err != nil {
		return err
	}
	c, err := libcontainer.Create(dir, wire.LibcontainerID, cfg)
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	started := time.Now()
	if err := c.Run(process); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	if err := ends.started(); err != nil {
		return err
	}
	pid, err := process.Pid()
	if err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	if err := writeState(pid, started); err != nil {
		return err
	}
	return become(b.Helper, ends, pid, started, status)
}

// onInitramfs tells whether / is a file system that cannot be pivoted away from.
func onInitramfs() bool {
	var fs unix.Statfs_t
	const ramfs = 0x858458f6
	return unix.Statfs("/", &fs) == nil && fs.Type == ramfs
}

// clampOOM raises what the kernel would refuse: without CAP_SYS_RESOURCE a process may not go below its own score, and the
// refusal would fail the whole start.
func clampOOM(want *int) *int {
	if want == nil {
		return nil
	}
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return want
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || *want >= own || hasSysResource() {
		return want
	}
	return &own
}

func hasSysResource() bool {
	var h = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if unix.Capget(&h, &d[0]) != nil {
		return false
	}
	return d[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// bindSubPaths binds each subPath of a volume below the container's folder: it is opened without leaving the volume, so that a link
// which a container puts there cannot lead out.
func bindSubPaths(dir string, b bundle.Bundle) error {
	for i, sp := range b.Helper.SubPaths {
		f, err := openSubPath(sp)
		if err != nil {
			return fmt.Errorf("subPath %q of a volume: %w", sp.Path, err)
		}
		target := filepath.Join(dir, "subpaths", strconv.Itoa(i))
		err = bindFile(f, target)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("subPath %q of a volume: %w", sp.Path, err)
		}
		b.Spec.Mounts[sp.Mount].Source = target
	}
	return nil
}

func openSubPath(sp bundle.SubPath) (*os.File, error) {
	f, err := pathrs.OpenInRoot(sp.Root, sp.Path)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if err := pathrs.MkdirAll(sp.Root, sp.Path, 0o755); err != nil {
		return nil, err
	}
	return pathrs.OpenInRoot(sp.Root, sp.Path)
}

func bindFile(f *os.File, target string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = os.MkdirAll(target, 0o700)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o700); err == nil {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), target, "", unix.MS_BIND, "")
}

// newProcess is the spec's process with the user looked up in the image.
func newProcess(spec *specs.Spec, h bundle.Helper) (*libcontainer.Process, error) {
	p := spec.Process
	out := &libcontainer.Process{Args: p.Args, Env: p.Env, Cwd: p.Cwd, NoNewPrivileges: &p.NoNewPrivileges, Label: p.SelinuxLabel}
	if out.Cwd == "" {
		out.Cwd = "/"
	}
	if p.Capabilities != nil {
		out.Capabilities = &configs.Capabilities{Bounding: p.Capabilities.Bounding, Effective: p.Capabilities.Effective,
			Inheritable: p.Capabilities.Inheritable, Permitted: p.Capabilities.Permitted, Ambient: p.Capabilities.Ambient}
	}
	u, err := lookupUser(h.User)
	if err != nil {
		return nil, err
	}
	out.UID, out.GID = u.Uid, u.Gid
	out.AdditionalGroups = append(out.AdditionalGroups, u.Sgids...)
	for _, g := range h.Groups {
		out.AdditionalGroups = append(out.AdditionalGroups, int(g))
	}
	return out, nil
}

// lookupUser resolves names in the image's own files, which are opened without following links out of the image.
func lookupUser(spec string) (*user.ExecUser, error) {
	open := func(name string) *os.File {
		f, err := pathrs.OpenInRoot(wire.RootFS, name)
		if err != nil {
			return nil
		}
		defer f.Close()
		r, err := pathrs.Reopen(f, os.O_RDONLY)
		if err != nil {
			return nil
		}
		return r
	}
	passwd, group := open("/etc/passwd"), open("/etc/group")
	defer passwd.Close()
	defer group.Close()
	if spec == "" {
		spec = "0"
	}
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, reader(passwd), reader(group))
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", spec, err)
	}
	return u, nil
}

// ends are this process's ends of the container's streams.
type ends struct {
	stdout, stderr, stdin *os.File
	attach                *os.File
	console               [2]*os.File // socket pair over which the terminal's master comes
	child                 []*os.File
}

// connect gives the process pipes, or asks for a terminal, and opens the attach socket.
func connect(p *libcontainer.Process, h bundle.Helper) (*ends, error) {
	e := &ends{}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: wire.AttachSock, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open the attach socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if e.attach, err = l.File(); err != nil {
		return nil, fmt.Errorf("open the attach socket: %w", err)
	}
	_ = l.Close()
	if h.TTY {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open the console socket: %w", err)
		}
		e.console = [2]*os.File{os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")}
		p.ConsoleSocket = e.console[1]
		return e, nil
	}
	pipe := func() (r, w *os.File, err error) {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return nil, nil, fmt.Errorf("open a pipe for the container's output: %w", err)
		}
		return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
	}
	var out, errw, in *os.File
	if e.stdout, out, err = pipe(); err != nil {
		return nil, err
	}
	if e.stderr, errw, err = pipe(); err != nil {
		return nil, err
	}
	if h.Stdin {
		if in, e.stdin, err = pipe(); err != nil {
			return nil, err
		}
	} else if in, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	p.Stdin, p.Stdout, p.Stderr = in, out, errw
	e.child = []*os.File{in, out, errw}
	return e, nil
}

// started closes the child's ends and fetches the terminal.
func (e *ends) started() error {
	for _, f := range e.child {
		_ = f.Close()
	}
	if e.console[0] == nil {
		return nil
	}
	master, err := utils.RecvFile(e.console[0])
	if err != nil {
		return fmt.Errorf("receive the container's terminal: %w", err)
	}
	e.stdout = master
	return nil
}

func writeState(pid int, started time.Time) error {
	s := bundle.State{PID: pid, Shim: os.Getpid(), Started: started.UnixNano()}
	var err error
	if s.PIDStart, err = startTime(pid); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write the container's state: %w", err)
	}
	if s.ShimStart, err = startTime(s.Shim); err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		s.BootID = strings.TrimSpace(string(id))
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	if err := os.WriteFile(wire.StateFile+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	return os.Rename(wire.StateFile+".tmp", wire.StateFile)
}

// become puts the ends where the shim expects them (reserve has kept these numbers free), answers, and executes the shim.
func become(h bundle.Helper, e *ends, pid int, started time.Time, status *os.File) error {
	flags := "-"
	for _, f := range []struct {
		on bool
		c  string
	}{{h.TTY, "t"}, {h.Stdin, "i"}, {h.StdinOnce, "o"}} {
		if f.on {
			flags += f.c
		}
	}
	for _, d := range []struct {
		f  *os.File
		to int
	}{{e.stdout, wire.ShimStdout}, {e.stderr, wire.ShimStderr}, {e.stdin, wire.ShimStdin}, {e.attach, wire.ShimAttach}} {
		if d.f == nil {
			continue
		}
		if err := unix.Dup3(int(d.f.Fd()), d.to, 0); err != nil {
			return fmt.Errorf("hand the container's streams to the shim: %w", err)
		}
	}
	args := []string{"reconcile-shim", strconv.Itoa(pid), strconv.FormatInt(started.UnixNano(), 10), h.LogPath,
		strconv.FormatInt(h.LogMaxBytes, 10), strconv.Itoa(h.LogMaxFiles), h.OOMFile, flags}
	if _, err := status.WriteString(wire.OK); err != nil {
		return err
	}
	err := unix.Exec(h.Shim, args, []string{"GOMAXPROCS=1", "GOGC=25"})
	return fmt.Errorf("execute the shim: %w", err)
}
