package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errGone says that a process has ended, or that its PID names another one now.
var errGone = errors.New("process is gone")

// openProcess returns a pidfd of the very process that started at start (field 22 of /proc/PID/stat; 0 is not checked). It
// refuses PIDs that would mean a group or the init process. The caller closes the file.
func openProcess(pid int, start uint64) (*os.File, error) {
	if pid <= 1 {
		return nil, fmt.Errorf("refuse to touch process %d", pid)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// The descriptor holds the process that is there now; only if its start time is right, it is ours.
	st, err := readStat(pid)
	if err == nil && start != 0 && st.start != start {
		err = errGone
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// processes is what untilGone needs of the machine.
type processes interface {
	// wait blocks until the process has ended (nil) or ctx has; any other error says nothing of the process.
	wait(ctx context.Context, pid int, start uint64) error
	// look tells whether the process lives: nil, or errGone, or an error that says nothing of it.
	look(pid int, start uint64) error
}

// kernelProcesses are this machine's.
type kernelProcesses struct{}

func (kernelProcesses) wait(ctx context.Context, pid int, start uint64) error {
	f, err := openProcess(pid, start)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return waitProcess(ctx, f)
}

func (kernelProcesses) look(pid int, start uint64) error {
	st, err := readStat(pid)
	if err == nil && (st.zombie || start != 0 && st.start != start) {
		return errGone
	}
	return err
}

// untilGone blocks until the process that started at start has ended (nil), or ctx has (its error). That the kernel refuses to watch it,
// for want of descriptors or memory, is no end: it then looks again until it knows.
func untilGone(ctx context.Context, p processes, pid int, start uint64, log *slog.Logger) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := p.wait(ctx, pid, start)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil || errors.Is(p.look(pid, start), errGone) {
			return nil
		}
		log.Warn("cannot watch a container's shim, trying again", "pid", pid, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// signalProcess sends a signal; a process that is gone is errGone.
func signalProcess(pid int, start uint64, sig unix.Signal) error {
	f, err := openProcess(pid, start)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.PidfdSendSignal(int(f.Fd()), sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	return err
}

// waitProcess blocks, without holding a thread, until the process of a pidfd has ended or ctx has.
func waitProcess(ctx context.Context, pidfd *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = pidfd.SetReadDeadline(time.Now()) })
	defer stop()
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// procStat is what is read of /proc/PID/stat: the state, and field 22, the start time.
type procStat struct {
	start  uint64
	zombie bool
}

// readStat reads a process's state. A process that is not there is errGone; any other error says nothing of it.
func readStat(pid int) (procStat, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return procStat{}, errGone
	}
	if err != nil {
		return procStat{}, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return procStat{}, fmt.Errorf("read the start time of process %d: %s is short", pid, path)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	return procStat{start: start, zombie: f[0] == "Z" || f[0] == "X"}, err
}
