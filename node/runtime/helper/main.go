//go:build linux && cgo

// Command helper makes containers with runc's libcontainer. It is a program of its own, static and small, because libcontainer
// needs cgo and because each start and exec pays for the size of the program that is executed; it is embedded in the
// reconcile binary.
//
// It owns nothing but what it is told to make in one container's folder. It may not know pods, images or servers.
//
// How data passes through: `helper run DIR` reads DIR/config.json, mounts the root, starts the container, writes
// DIR/state.json, answers on descriptor 3 and becomes the shim; `helper exec DIR` reads a request on descriptor 4, runs it and
// answers with its exit code; `helper init` is libcontainer's own second stage.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	_ "github.com/opencontainers/cgroups/devices" // device rules, which the cgroup manager takes as a plug-in
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // the C half of `init`

	"golang.org/x/sys/unix"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		runtime.GOMAXPROCS(1)
		runtime.LockOSThread()
		libcontainer.Init() // never returns
	}
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: helper run|exec DIR")
		os.Exit(2)
	}
	unix.CloseOnExec(wire.StatusFD)
	status := os.NewFile(wire.StatusFD, "status")
	if err := os.Chdir(os.Args[2]); err != nil {
		answer(status, err)
	}
	switch os.Args[1] {
	case "run":
		answer(status, run(status))
	case "exec":
		code, err := execute()
		r := bundle.ExecResult{Code: code}
		if err != nil {
			r.Error = err.Error()
		}
		if err := json.NewEncoder(status).Encode(r); err != nil {
			os.Exit(1)
		}
	default:
		answer(status, fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

// answer tells why it did not work and ends; run does not return when it worked.
func answer(status *os.File, err error) {
	_, _ = status.WriteString(err.Error())
	os.Exit(1)
}

// startTime is field 22 of /proc/PID/stat: with the PID it names a process for good.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return 0, errors.New("read a process's start time: /proc/PID/stat is short")
	}
	var t uint64
	_, err = fmt.Sscan(f[19], &t)
	return t, err
}
