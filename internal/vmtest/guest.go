package vmtest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guest is process 1 of the machine. It never returns: it powers the machine off.
func guest() {
	var err error
	if os.Getenv(envStage) == "" {
		// This ends in an exec of the same program on the new root.
		err = moveRoot()
	} else {
		err = run()
	}
	if err != nil {
		// Process 1 has the console as its standard error; the host prints its end.
		fmt.Fprintln(os.Stderr, "vmtest:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// moveRoot copies everything to a tmpfs and makes that the root: in the kernel's own rootfs pivot_root does not work, so that no
// container could be started.
func moveRoot() error {
	const root = "/newroot"
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=90%"); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == root:
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(root+path, 0o755)
		case d.Type().IsRegular():
			return moveFile(path, root+path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy the root: %w", err)
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Exec("/init", []string{"/init"}, append(os.Environ(), envStage+"=init"))
}

// moveFile copies a file and removes the first one, which holds memory too.
func moveFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(out.Close(), os.Remove(from))
}

// run prepares the machine, runs the tests in a child, and sends what they gave.
func run() error {
	text, err := os.ReadFile(guestRecipe)
	if err != nil {
		return err
	}
	var r recipe
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	if err := mounts(); err != nil {
		return err
	}
	for _, m := range r.Modules {
		if err := load(m); err != nil {
			return err
		}
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	out := &frames{w: port}
	if err := prepare(); err != nil {
		return err
	}
	defer out.beat()()
	if r.Blocked > 0 {
		defer time.AfterFunc(r.Blocked, showBlocked).Stop()
	}
	code := tests(r, out)
	out.sendFile(frameProfile, "", guestProfile)
	entries, _ := os.ReadDir(guestCoverDir)
	for _, e := range entries {
		out.sendFile(frameCoverDir, e.Name()+"\x00", filepath.Join(guestCoverDir, e.Name()))
	}
	out.send(frameExit, []byte(strconv.Itoa(code)))
	return port.Close()
}

// outputGrace is how long the output of processes that outlive the tests is waited for.
const outputGrace = time.Second

// tests runs the binary again as an ordinary process and returns its exit code. As process 1 it also reaps what the tests leave
// behind: a process that ended is gone only then.
func tests(r recipe, out io.Writer) int {
	code, err := runTests(r, out)
	if err != nil {
		fmt.Fprintf(out, "vmtest: the tests ended with %v\n", err)
		return 2
	}
	return code
}

func runTests(r recipe, out io.Writer) (int, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer read.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	env := append([]string{envStage + "=" + stageTests, "HOME=/root", "TMPDIR=/tmp", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, r.Env...)
	p, err := os.StartProcess("/init", append([]string{"/init"}, r.Args...), &os.ProcAttr{Dir: "/", Env: env, Files: []*os.File{null, write, write}})
	if err != nil {
		return 0, err
	}
	_ = write.Close()
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(out, read)
		close(copied)
	}()
	status, err := reap(p.Pid)
	if err != nil {
		return 0, err
	}
	_ = read.SetReadDeadline(time.Now().Add(outputGrace))
	<-copied
	if !status.Exited() {
		return 0, fmt.Errorf("signal %v", status.Signal())
	}
	return status.ExitStatus(), nil
}

// reap waits for all children, own and inherited, until the one with the given id has ended.
func reap(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the tests: %w", err)
		case got == pid:
			return status, nil
		}
	}
}

func mounts() error {
	for _, m := range []struct {
		source, target, kind, data string
		flags                      uintptr
	}{
		{"proc", "/proc", "proc", "", 0},
		{"sysfs", "/sys", "sysfs", "", 0},
		{"devtmpfs", "/dev", "devtmpfs", "", 0},
		{"devpts", "/dev/pts", "devpts", "ptmxmode=666", 0},
		{"tmpfs", "/dev/shm", "tmpfs", "", 0},
		{"tmpfs", "/run", "tmpfs", "", 0},
		{"tmpfs", "/tmp", "tmpfs", "", 0},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", 0},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for _, dir := range []string{"/root", "/var/lib", "/etc", guestCoverDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink("/run", "/var/run")
}

// load loads one module. That it is there already is no fault.
func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}

// prepare makes of the kernel's bare state what programs expect: loopback, and cgroup controllers for child groups.
func prepare() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	have, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(have)) {
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", c, err)
		}
	}
	return nil
}

// openPort opens the virtio-serial port named vmtest.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		name, err := os.ReadFile(n)
		if err == nil && strings.TrimSpace(string(name)) == "vmtest" {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_WRONLY, 0)
		}
	}
	return nil, fmt.Errorf("no virtio-serial port is named vmtest among %d", len(names))
}

// frames writes frames to the host. It is an io.Writer for output.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (f *frames) Write(b []byte) (int, error) {
	f.send(frameOutput, b)
	return len(b), nil
}

// showBlocked has the kernel write to its console which tasks wait in it and cannot be ended, and what its processors do.
func showBlocked() {
	for _, what := range []string{"w", "l"} {
		if err := os.WriteFile("/proc/sysrq-trigger", []byte(what), 0o200); err != nil {
			fmt.Fprintln(os.Stderr, "vmtest: ask the kernel for the tasks that it holds:", err)
		}
	}
}

// beat tells the host every now and then that this process runs, until the function that it returns is called.
func (f *frames) beat() (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for ticks := time.NewTicker(beat); ; {
			f.send(frameAlive, nil)
			select {
			case <-ticks.C:
			case <-stop:
				ticks.Stop()
				return
			}
		}
	}()
	return func() { close(stop); <-ended }
}

func (f *frames) send(kind byte, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	// There is nobody to tell of an error: the host sees the frame missing.
	_, _ = f.w.Write(append(head, data...))
}

func (f *frames) sendFile(kind byte, prefix, path string) {
	data, err := os.ReadFile(path)
	if err == nil {
		f.send(kind, append([]byte(prefix), data...))
	}
}
