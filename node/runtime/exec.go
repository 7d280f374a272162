package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"reconcile/node/runtime/bundle"
)

// Exec implements Runtime.
func (h *Host) Exec(ctx context.Context, id string, x ExecConfig) (int, error) {
	e, err := h.get(id)
	if err != nil {
		return 0, err
	}
	if c, _ := h.snapshot(e); c.State != Running {
		return 0, fmt.Errorf("exec in container %s: %w", id, ErrNotRunning)
	}
	if len(x.Args) == 0 {
		return 0, errors.New("exec: no command was given")
	}
	s, err := h.newExec(id, x)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	return s.run(ctx)
}

// session is one running `helper exec`.
type session struct {
	x      ExecConfig
	cmd    *exec.Cmd
	status *os.File
	stdin  *os.File // our end of the command's input, nil without
	outs   []*os.File
	sinks  []io.Writer
	child  []*os.File
	// console is our end of the socket over which the terminal's master comes.
	console *os.File
}

func (h *Host) newExec(id string, x ExecConfig) (*session, error) {
	s := &session{x: x}
	cmd := exec.Command(h.helper, "exec", h.dir(id))
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=2", "GOGC=off"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.cmd = cmd
	statusR, statusW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.status, s.child = statusR, append(s.child, statusW)
	req := bundle.ExecRequest{Args: x.Args, TTY: x.TTY}
	if x.TTY {
		req.Width, req.Height = firstSize(x.Resize)
	}
	b, err := json.Marshal(req)
	if err != nil {
		return nil, s.abandon(err)
	}
	request, err := memfile(b)
	if err != nil {
		return nil, s.abandon(err)
	}
	s.child = append(s.child, request)
	cmd.ExtraFiles = []*os.File{statusW, request}
	if x.TTY {
		err = s.withConsole()
	} else {
		err = s.withPipes()
	}
	if err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// firstSize takes a size that is there already, so that the terminal begins with it.
func firstSize(c <-chan Size) (w, h uint16) {
	select {
	case s := <-c:
		return s.Width, s.Height
	default:
		return 0, 0
	}
}

// memfile is an unnamed file with content, read from its start.
func memfile(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "request")
	if _, err = f.Write(b); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *session) withConsole() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.console = os.NewFile(uintptr(fds[0]), "console")
	theirs := os.NewFile(uintptr(fds[1]), "console")
	s.child = append(s.child, theirs)
	s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, theirs)
	return nil
}

func (s *session) withPipes() error {
	if s.x.Stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		s.stdin, s.child, s.cmd.Stdin = w, append(s.child, r), r
	}
	for _, o := range []struct {
		w  io.Writer
		to *io.Writer
	}{{s.x.Stdout, &s.cmd.Stdout}, {s.x.Stderr, &s.cmd.Stderr}} {
		if o.w == nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		s.outs, s.sinks, s.child = append(s.outs, r), append(s.sinks, o.w), append(s.child, w)
		*o.to = w
	}
	return nil
}

func (s *session) closeChild() {
	for _, f := range s.child {
		_ = f.Close()
	}
	s.child = nil
}

func (s *session) abandon(err error) error {
	s.closeChild()
	for _, f := range append(s.outs, s.status, s.stdin, s.console) {
		if f != nil {
			_ = f.Close()
		}
	}
	return err
}

// run starts the helper and carries the streams until the command has ended and its output is read. A goroutine may stay behind
// in a Read of the client's input; it ends when the client goes.
func (s *session) run(ctx context.Context) (int, error) {
	defer s.abandon(nil) //nolint:errcheck // closes only
	if err := s.cmd.Start(); err != nil {
		return 0, fmt.Errorf("run the runtime helper: %w", err)
	}
	s.closeChild()
	// The helper kills the command, then itself ends.
	stop := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	var wg sync.WaitGroup
	if s.console != nil {
		master, err := receiveFile(s.console)
		if err == nil {
			s.stdin = master
			s.outs, s.sinks = []*os.File{master}, []io.Writer{s.x.Stdout}
			if s.x.Stdout == nil {
				s.sinks[0] = io.Discard
			}
			go resizeTerminal(master, s.x.Resize)
		}
	}
	if s.stdin != nil && s.x.Stdin != nil {
		in := s.stdin
		tty := s.x.TTY
		if !tty {
			s.stdin = nil
		}
		go func() {
			_, _ = io.Copy(in, s.x.Stdin)
			if !tty {
				_ = in.Close()
			}
		}()
	}
	for i, r := range s.outs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, _ = io.Copy(s.sinks[i], r) // a terminal ends with EIO
		}()
	}
	var res bundle.ExecResult
	derr := json.NewDecoder(s.status).Decode(&res)
	werr := s.cmd.Wait()
	if ctx.Err() != nil {
		return 0, fmt.Errorf("exec was cut off: %w", ctx.Err())
	}
	wg.Wait()
	switch {
	case derr != nil:
		return 0, fmt.Errorf("the runtime helper did not answer: %w", errors.Join(derr, werr))
	case res.Error != "":
		return 0, &StartError{Message: res.Error}
	}
	return res.Code, nil
}

// receiveFile takes one file descriptor from a socket.
func receiveFile(sock *os.File) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	buf := make([]byte, 4096)
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive a terminal: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) == 0 {
		return nil, fmt.Errorf("receive a terminal: nothing came: %w", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return nil, fmt.Errorf("receive a terminal: nothing came: %w", err)
	}
	// Non-blocking, so that Close ends a Read.
	_ = unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

func resizeTerminal(master *os.File, sizes <-chan Size) {
	if sizes == nil {
		return
	}
	for s := range sizes {
		conn, err := master.SyscallConn()
		if err != nil {
			return
		}
		if conn.Control(func(fd uintptr) {
			_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Height, Col: s.Width})
		}) != nil {
			return
		}
	}
}
