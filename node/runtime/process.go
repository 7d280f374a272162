package runtime

import (
	"context"
	"errors"
	"fmt"
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
	if got, err := startTime(pid); err != nil || (start != 0 && got != start) {
		_ = f.Close()
		return nil, errGone
	}
	return f, nil
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

// startTime is field 22 of /proc/PID/stat.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 || f[0] == "Z" && len(f) < 20 {
		return 0, fmt.Errorf("read the start time of process %d: /proc/%d/stat is short", pid, pid)
	}
	return strconv.ParseUint(f[19], 10, 64)
}
