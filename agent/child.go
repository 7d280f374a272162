package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process of ours that must outlive the agent: containers need DNS also while the agent is away. It is found again by a
// lock that it holds on a file for as long as it lives.
type child struct {
	name string
	// lock is the file; the child writes its childState into it.
	lock string
	// argv is the command, Version what a running child must have been started with: another one is replaced.
	argv    []string
	version string
	// output is the file that the child's words are appended to.
	output string
	log    *slog.Logger
}

// childState is what a child says of itself in its lock file.
type childState struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// Waits between the end of a child and its next start: at first none, so that names are back within a second.
const (
	childPause    = 100 * time.Millisecond
	childMaxPause = 5 * time.Second
	childSettled  = 10 * time.Second
)

// lockFD is the descriptor by which a child inherits its lock: there is no moment at which it lives and does not hold it.
const lockFD = 3

// lockNamed is how long after its start a child has to write who it is.
const lockNamed = 5 * time.Second

// takeLock opens the lock's file and locks it for as long as the file, or a copy in another process, stays open.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take the lock %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("take the lock %s: another process holds it: %w", path, err)
	}
	return f, nil
}

// inheritedLock is the lock that the agent has given to this process, nil if it gave none.
func inheritedLock(path string) *os.File {
	var have, want unix.Stat_t
	if unix.Fstat(lockFD, &have) != nil || unix.Stat(path, &want) != nil || have.Dev != want.Dev || have.Ino != want.Ino {
		return nil
	}
	unix.CloseOnExec(lockFD)
	return os.NewFile(lockFD, path)
}

// HoldLock holds the lock of a child process for as long as the returned file stays open, and writes who holds it. It is called
// by the child. The error tells if another one lives.
func HoldLock(path, version string) (*os.File, error) {
	f := inheritedLock(path)
	if f == nil {
		var err error
		if f, err = takeLock(path); err != nil {
			return nil, err
		}
	}
	b, err := json.Marshal(childState{PID: os.Getpid(), Version: version})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write the lock %s: %w", path, err)
	}
	return f, nil
}

// running tells whether a child holds the lock, and which. It waits for one that is just starting to write who it is; the PID of one
// that does not is 0.
func running(lock string) (childState, bool) {
	f, err := os.OpenFile(lock, os.O_RDWR, 0)
	if err != nil {
		return childState{}, false
	}
	defer f.Close()
	for deadline := time.Now().Add(lockNamed); ; time.Sleep(5 * time.Millisecond) {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
			return childState{}, false
		}
		var st childState
		if err := json.NewDecoder(io.NewSectionReader(f, 0, 1<<10)).Decode(&st); err == nil && st.PID > 1 {
			return st, true
		}
		if time.Now().After(deadline) {
			return childState{}, true
		}
	}
}

// run keeps the child running until ctx ends, and leaves it running then.
func (c *child) run(ctx context.Context) error {
	pause := childPause
	for ctx.Err() == nil {
		began := time.Now()
		if st, ok := running(c.lock); ok && st.Version == c.version {
			c.log.Info("found running", "process", c.name, "pid", st.PID)
			if err := awaitExit(ctx, st.PID); err != nil {
				c.log.Warn("cannot watch the process", "process", c.name, "pid", st.PID, "error", err)
			}
		} else if ok {
			c.log.Info("replacing one of another version", "process", c.name, "pid", st.PID)
			err := terminate(ctx, st.PID)
			if err == nil {
				continue
			}
			c.log.Warn("cannot end the process", "process", c.name, "pid", st.PID, "error", err)
		} else if err := c.startAndWait(ctx); err != nil {
			c.log.Warn("process has ended", "process", c.name, "error", err, "output", c.output)
		}
		if time.Since(began) > childSettled {
			pause = childPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, childMaxPause)
	}
	return nil
}

// startAndWait starts the child in a session of its own and blocks until it or ctx ends.
func (c *child) startAndWait(ctx context.Context) error {
	out, err := openOutput(c.output)
	if err != nil {
		return err
	}
	defer out.Close()
	lock, err := takeLock(c.lock)
	if err != nil {
		return err
	}
	// The child has its own copy once it has started.
	defer lock.Close()
	if err := lock.Truncate(0); err != nil {
		return err
	}
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	// Files, not pipes: a pipe would break when the agent ends.
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{lock} // lockFD
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	lock.Close()
	c.log.Info("started", "process", c.name, "pid", cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			return errors.New("it ended by itself")
		}
		return err
	case <-ctx.Done():
		// The child stays. The goroutine ends with the process, which is what it is for.
		return nil
	}
}

// maxOutput is the size from which the file of a child's words begins anew at the child's next start.
const maxOutput = 1 << 20

// openOutput opens the file that a child's words are appended to: what the last one said before it ended is the reason that is
// looked for.
func openOutput(path string) (*os.File, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxOutput {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

// awaitExit blocks until a process that is not our child ends, or ctx does.
func awaitExit(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
	}
	return nil
}

// terminate ends a process with SIGTERM, after 3 s with SIGKILL.
func terminate(ctx context.Context, pid int) error {
	if pid <= 1 {
		return fmt.Errorf("end process %d: that is no process of ours", pid)
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.Kill(pid, sig); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
		wait, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := awaitExit(wait, pid)
		over := wait.Err() == nil
		cancel()
		if err != nil || over {
			return err
		}
	}
	return fmt.Errorf("end process %d: it is still there", pid)
}

// stop ends the child for good, for reset.
func (c *child) stop(ctx context.Context) error {
	st, ok := running(c.lock)
	if !ok {
		return nil
	}
	if err := terminate(ctx, st.PID); err != nil {
		return err
	}
	if err := os.Remove(c.lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// childVersion is what makes a running child the right one: the program's own content and what it is told.
func childVersion(executable string, config []byte) (string, error) {
	info, err := os.Stat(executable)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("stat %s: no inode", executable)
	}
	return fmt.Sprintf("%d-%d-%s", st.Ino, info.ModTime().UnixNano(), digest(config)), nil
}

func logFile(dir, name string) string { return filepath.Join(dir, name+".log") }
