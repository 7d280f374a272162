package manifests

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// What the child may use beyond what a process of ours has when it starts.
const (
	evalMemory  = 1 << 30
	evalHeap    = 384 << 20
	evalSeconds = 10
)

// emptyRoot is the environment variable that names the folder which the child makes its root.
const emptyRoot = "RECONCILE_EMPTY_ROOT"

// confine gives up what the evaluation of somebody's CUE does not need: time, memory, files, the file system and, as root, the
// user. The parent has put the child into a network of its own.
func confine() error {
	debug.SetMemoryLimit(evalHeap)
	size, err := addressSpace()
	if err != nil {
		return err
	}
	for _, l := range []struct {
		which int
		value uint64
	}{{unix.RLIMIT_AS, size + evalMemory}, {unix.RLIMIT_CPU, evalSeconds}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, 32}, {unix.RLIMIT_CORE, 0}} {
		if err := unix.Setrlimit(l.which, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("set limit %d of the evaluation: %w", l.which, err)
		}
	}
	root := os.Getenv(emptyRoot)
	if root == "" || os.Geteuid() != 0 {
		return nil
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("leave the file system: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("leave the file system: %w", err)
	}
	return dropUser()
}

// addressSpace is what the process has mapped now: a Go program reserves much that it never touches.
func addressSpace() (uint64, error) {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("read the evaluation's size: %w", err)
	}
	first, _, _ := bytes.Cut(raw, []byte(" "))
	pages, err := strconv.ParseUint(string(first), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the evaluation's size: %w", err)
	}
	return pages * uint64(os.Getpagesize()), nil
}
