//go:build linux

package main

import (
	"syscall"
	"unsafe"

	"reconcile/node/runtime/wire"
)

// maxClients may be attached at once.
const maxClients = 8

// attach serves the clients on the container's attach socket.
type attach struct {
	clients [maxClients]int
	n       int
	// stdin is the container's standard input (the terminal's master with a terminal), -1 when closed or not asked for.
	stdin int
	// pending is input that the container has not taken yet; clients are not read while there is some.
	pending []byte
	// eof says that standard input closes once pending is empty.
	eof bool
}

func (a *attach) init(s *shim) {
	a.stdin = -1
	if s.stdin {
		a.stdin = wire.ShimStdin
		if s.tty {
			a.stdin = wire.ShimStdout
		}
		_ = syscall.SetNonblock(a.stdin, true)
	}
	_ = syscall.SetNonblock(wire.ShimAttach, true)
	s.watch(wire.ShimAttach, epollIn)
}

func (a *attach) handle(s *shim, fd int) {
	switch fd {
	case wire.ShimAttach:
		a.accept(s)
	case wire.ShimStdin:
		a.feed(s)
	default:
		if len(a.pending) > 0 {
			return
		}
		if !a.receive(s, fd) {
			a.drop(s, fd)
		}
	}
}

func (a *attach) accept(s *shim) {
	fd, _, err := syscall.Accept4(wire.ShimAttach, syscall.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	if a.n == maxClients {
		_ = syscall.Close(fd)
		return
	}
	// A client that takes nothing for a second is dropped: it must not stop the container's output.
	second := syscall.Timeval{Sec: 1}
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &second)
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &second)
	a.clients[a.n] = fd
	a.n++
	s.watch(fd, epollIn)
}

func (a *attach) drop(s *shim, fd int) {
	for i := range a.n {
		if a.clients[i] == fd {
			a.n--
			a.clients[i] = a.clients[a.n]
			s.forget(fd)
			_ = syscall.Close(fd)
			break
		}
	}
	if s.once && a.n == 0 && !s.tty {
		a.eof = true
		a.feed(s)
	}
}

func (a *attach) broadcast(s *shim, kind byte, data []byte) {
	if a.n == 0 {
		return
	}
	var head [wire.FrameHeader]byte
	head[0] = kind
	n := len(data)
	head[1], head[2], head[3], head[4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	for i := a.n - 1; i >= 0; i-- {
		if fd := a.clients[i]; !sendAll(fd, head[:]) || !sendAll(fd, data) {
			a.drop(s, fd)
		}
	}
}

func sendAll(fd int, b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.SendmsgN(fd, b, nil, nil, syscall.MSG_NOSIGNAL)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}

func recvAll(fd int, b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.Read(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// receive reads one frame of a client and does what it says.
func (a *attach) receive(s *shim, fd int) bool {
	var head [wire.FrameHeader]byte
	if !recvAll(fd, head[:]) {
		return false
	}
	n := int(head[1])<<24 | int(head[2])<<16 | int(head[3])<<8 | int(head[4])
	if n > lineMax {
		return false
	}
	data := make([]byte, n)
	if !recvAll(fd, data) {
		return false
	}
	switch head[0] {
	case wire.FrameStdin:
		a.pending = append(a.pending, data...)
		a.feed(s)
	case wire.FrameEOF:
		// With stdinOnce the end of the first client's input is the end of the container's.
		if s.once && !s.tty {
			a.eof = true
			a.feed(s)
		}
	case wire.FrameResize:
		if s.tty && n == 4 {
			setSize(wire.ShimStdout, uint16(data[0])<<8|uint16(data[1]), uint16(data[2])<<8|uint16(data[3]))
		}
	}
	return true
}

// feed gives pending input to the container as far as it takes it.
func (a *attach) feed(s *shim) {
	for len(a.pending) > 0 && a.stdin >= 0 {
		n, err := syscall.Write(a.stdin, a.pending)
		if err == syscall.EAGAIN && !s.tty {
			s.watch(wire.ShimStdin, epollOut)
			return
		}
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			break
		}
		a.pending = a.pending[n:]
	}
	a.pending = nil
	if !s.tty && s.stdin {
		s.forget(wire.ShimStdin)
	}
	if a.eof && a.stdin >= 0 {
		_ = syscall.Close(a.stdin)
		a.stdin = -1
	}
}

func setSize(fd int, width, height uint16) {
	ws := struct{ row, col, x, y uint16 }{row: height, col: width}
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&ws)))
}
