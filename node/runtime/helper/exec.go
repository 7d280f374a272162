//go:build linux && cgo

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

// execute runs one more process in the container and waits for it. Its streams are this process's own; a terminal's master goes
// over ConsoleFD to the runtime.
func execute() (int, error) {
	var b bundle.Bundle
	raw, err := os.ReadFile(wire.ConfigFile)
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		return 0, fmt.Errorf("read the container's configuration: %w", err)
	}
	unix.CloseOnExec(wire.RequestFD)
	unix.CloseOnExec(wire.ConsoleFD)
	var req bundle.ExecRequest
	if err := json.NewDecoder(os.NewFile(wire.RequestFD, "request")).Decode(&req); err != nil {
		return 0, fmt.Errorf("read the request: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	c, err := libcontainer.Load(dir, wire.LibcontainerID)
	if err != nil {
		return 0, fmt.Errorf("find the container: %w", err)
	}
	p, err := newProcess(b.Spec, b.Helper)
	if err != nil {
		return 0, err
	}
	p.Args = req.Args
	if req.TTY {
		p.ConsoleSocket = os.NewFile(wire.ConsoleFD, "console")
		p.ConsoleWidth, p.ConsoleHeight = req.Width, req.Height
		p.Env = append(p.Env, "TERM=xterm")
	} else {
		p.Stdin, p.Stdout, p.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	cut := make(chan os.Signal, 1)
	signal.Notify(cut, syscall.SIGTERM)
	if err := c.Run(p); err != nil {
		return 0, err
	}
	go func() {
		<-cut
		_ = p.Signal(syscall.SIGKILL)
	}()
	state, err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// reader is nil for a nil file: a nil pointer in an interface is not nil.
func reader(f *os.File) io.Reader {
	if f == nil {
		return nil
	}
	return f
}
