//go:build linux

// Command shim stands by one running container: it is the parent of the container's first process, copies its output to the log,
// serves attach and writes exit.json when it ends. The helper becomes it by execve after the start.
//
// It owns the container's pipes and its log file. It may know as little as possible: there is one for every container on a
// machine, so it has no goroutines of its own, no maps, and raw system calls only; its private memory is what matters.
//
// How data passes through: output is read from pipes (or a terminal), cut into lines, stamped and written to the log and to
// whoever is attached; frames of attached clients go to the container's standard input.
//
// Usage: shim PID STARTED LOG MAXBYTES MAXFILES OOMFILE FLAGS, in the container's folder; FLAGS are of "t" (terminal),
// "i" (stdin) and "o" (stdin once); descriptors as in package wire.
package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"reconcile/node/runtime/wire"
)

const (
	epollIn  = syscall.EPOLLIN
	epollOut = syscall.EPOLLOUT
	// drainTime is how long output of left-over processes is waited for after the container's first process ended.
	drainTime = 100 * time.Millisecond
)

type shim struct {
	pid     int
	started int64
	oomFile string
	tty     bool
	stdin   bool
	once    bool

	epoll, pidfd int
	streams      [2]stream
	log          logFile
	attach       attach
	exited       bool
	status       syscall.WaitStatus
	drainUntil   time.Time
}

func main() {
	s, err := newShim(os.Args[1:])
	if err != nil {
		die(err)
	}
	if err := s.run(); err != nil {
		die(err)
	}
}

func die(err error) {
	_, _ = os.Stderr.WriteString("shim: " + err.Error() + "\n")
	os.Exit(1)
}

func newShim(args []string) (*shim, error) {
	if len(args) != 7 {
		return nil, syscall.EINVAL
	}
	s := &shim{oomFile: args[5], tty: strings.Contains(args[6], "t"), stdin: strings.Contains(args[6], "i"), once: strings.Contains(args[6], "o")}
	var err error
	if s.pid, err = strconv.Atoi(args[0]); err != nil || s.pid <= 1 {
		return nil, syscall.EINVAL
	}
	if s.started, err = strconv.ParseInt(args[1], 10, 64); err != nil {
		return nil, err
	}
	maxBytes, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return nil, err
	}
	maxFiles, err := strconv.Atoi(args[4])
	if err != nil {
		return nil, err
	}
	s.log = logFile{path: args[2], max: maxBytes, files: maxFiles, fd: -1}
	if err := s.log.open(); err != nil {
		return nil, err
	}
	s.streams = [2]stream{{fd: wire.ShimStdout, name: "stdout", kind: wire.FrameStdout}, {fd: wire.ShimStderr, name: "stderr", kind: wire.FrameStderr}}
	if s.tty {
		s.streams[1].fd = -1
	}
	return s, nil
}

func (s *shim) run() error {
	syscall.CloseOnExec(wire.StatusFD)
	var err error
	if s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	const sysPidfdOpen = 434
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(s.pid), 0, 0)
	if errno != 0 {
		return errno
	}
	s.pidfd = int(fd)
	s.watch(s.pidfd, epollIn)
	for i := range s.streams {
		if s.streams[i].fd >= 0 {
			_ = syscall.SetNonblock(s.streams[i].fd, true)
			s.watch(s.streams[i].fd, epollIn)
		}
	}
	s.attach.init(s)
	for !s.done() {
		if err := s.step(); err != nil {
			return err
		}
	}
	for i := range s.streams {
		s.streams[i].end(s)
	}
	s.log.flush()
	return s.writeExit()
}

func (s *shim) done() bool {
	if !s.exited {
		return false
	}
	return (s.streams[0].fd < 0 && s.streams[1].fd < 0) || time.Now().After(s.drainUntil)
}

func (s *shim) watch(fd int, events uint32) {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	if syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_ADD, fd, &ev) == syscall.EEXIST {
		_ = syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_MOD, fd, &ev)
	}
}

func (s *shim) forget(fd int) {
	_ = syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_DEL, fd, nil)
}

func (s *shim) step() error {
	timeout := -1
	if s.exited {
		timeout = 10
	}
	var events [8]syscall.EpollEvent
	n, err := syscall.EpollWait(s.epoll, events[:], timeout)
	if err == syscall.EINTR {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range events[:n] {
		s.handle(int(e.Fd))
	}
	s.log.flush()
	return nil
}

func (s *shim) handle(fd int) {
	switch fd {
	case s.pidfd:
		if p, err := syscall.Wait4(s.pid, &s.status, syscall.WNOHANG, nil); p == s.pid || err == syscall.ECHILD {
			s.exited = true
			s.drainUntil = time.Now().Add(drainTime)
			s.forget(fd)
		}
	case s.streams[0].fd:
		s.streams[0].read(s)
	case s.streams[1].fd:
		s.streams[1].read(s)
	default:
		s.attach.handle(s, fd)
	}
}

// exitCode is 128 + the signal's number for a signal, as shells and Kubernetes count.
func (s *shim) exitCode() (code, signal int) {
	if s.status.Signaled() {
		return 128 + int(s.status.Signal()), int(s.status.Signal())
	}
	return s.status.ExitStatus(), 0
}

// oomKills reads "oom_kill N" of the container's memory cgroup (v1: memory.oom_control, v2: memory.events).
func (s *shim) oomKills() int {
	if s.oomFile == "" {
		return 0
	}
	b, err := os.ReadFile(s.oomFile)
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(l, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	return 0
}

func (s *shim) writeExit() error {
	code, signal := s.exitCode()
	b := append([]byte(`{"code":`), strconv.Itoa(code)...)
	if signal != 0 {
		b = append(append(b, `,"signal":`...), strconv.Itoa(signal)...)
	}
	// The counter also counts a killed child of a living first process: only together with SIGKILL it is the container's end.
	if code == 137 && s.oomKills() > 0 {
		b = append(b, `,"oomKilled":true`...)
	}
	b = append(b, `,"startedAt":"`...)
	b = time.Unix(0, s.started).UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","finishedAt":"`...)
	b = time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, "\"}\n"...)
	if err := os.WriteFile(wire.ExitFile+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(wire.ExitFile+".tmp", wire.ExitFile)
}
