package runtime

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// troubled are the machine's processes seen by a caller whom the kernel refuses a few times: too many open files, no memory for a watch.
type troubled struct {
	waits, looks int
	asked        chan struct{}
}

var errRefused = errors.New("too many open files")

func (p *troubled) wait(ctx context.Context, pid int, start uint64) error {
	if p.waits > 0 {
		p.waits--
		if p.waits == 0 {
			close(p.asked)
		}
		return errRefused
	}
	return kernelProcesses{}.wait(ctx, pid, start)
}

func (p *troubled) look(pid int, start uint64) error {
	if p.looks > 0 {
		p.looks--
		return errRefused
	}
	return kernelProcesses{}.look(pid, start)
}

// TestWaitErrorIsNoEnd: a process counts as ended when it has, not when the kernel refuses to watch it.
func TestWaitErrorIsNoEnd(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	st, err := readStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	p := &troubled{waits: 3, looks: 2, asked: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- untilGone(t.Context(), p, cmd.Process.Pid, st.start, log) }()
	select {
	case <-p.asked:
	case err := <-done:
		t.Fatalf("a process that runs was declared ended: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("a process that runs was declared ended: %v", err)
	case <-time.After(50 * time.Millisecond): // nothing to wait for: it must stay so
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// What has ended but was not reaped is gone, also for one who can only look.
	if err := (kernelProcesses{}).look(cmd.Process.Pid, st.start); !errors.Is(err, errGone) {
		t.Errorf("a zombie: %v", err)
	}
	// Another process has the number now.
	if err := (kernelProcesses{}).look(os.Getpid(), 1); !errors.Is(err, errGone) {
		t.Errorf("another process of that number: %v", err)
	}
}

// always refuses every watch of a process that lives.
type always struct{ waits int }

func (p *always) wait(context.Context, int, uint64) error { p.waits++; return errRefused }

func (p *always) look(int, uint64) error { return nil }

// TestWaitErrorsAreSpaced: a kernel that refuses every watch is not asked in a tight loop, and the watch ends with its context.
func TestWaitErrorsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p := &always{}
		err := untilGone(ctx, p, 1000, 1, slog.New(slog.DiscardHandler))
		if !errors.Is(err, context.DeadlineExceeded) || p.waits > 70 {
			t.Errorf("%v after %d questions in a minute", err, p.waits)
		}
	})
}

// TestRefusedFileIsNoEnd: openProcess says that a process is gone only when it is.
func TestRefusedFileIsNoEnd(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	// No file can be opened for a moment: pidfd_open and /proc/PID/stat alike.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, open := openProcess(os.Getpid(), 0)
	look := kernelProcesses{}.look(os.Getpid(), 0)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"open": open, "look": look} {
		if err == nil || errors.Is(err, errGone) {
			t.Errorf("%s without a free descriptor: %v", what, err)
		}
	}
}
