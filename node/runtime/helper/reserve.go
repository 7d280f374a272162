//go:build linux && cgo

package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reconcile/node/runtime/wire"
)

// reserve takes the descriptors that the shim expects, before anything else gets them. A file of libcontainer's that had one of these numbers, and that
// nobody needs any more, would be closed by Go's garbage collector at any time: also when the number stands for the container's output by then, whose
// next write would be its last.
func reserve() error {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reserve the shim's descriptors: %w", err)
	}
	defer unix.Close(fd)
	for to := wire.ShimStdout; to <= wire.ShimAttach; to++ {
		if err := unix.Dup3(fd, to, unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("reserve the shim's descriptors: %w", err)
		}
	}
	return nil
}
