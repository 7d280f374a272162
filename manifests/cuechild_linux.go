package manifests

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// nobody is the user that the evaluation runs as when we are root.
const nobody = 65534

func dropUser() error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("drop the groups: %w", err)
	}
	if err := syscall.Setgid(nobody); err != nil {
		return fmt.Errorf("drop the group: %w", err)
	}
	if err := syscall.Setuid(nobody); err != nil {
		return fmt.Errorf("drop the user: %w", err)
	}
	return nil
}

// isolate puts the child into a process group and, as root, into a network of its own that has no interface.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	cmd.Cancel = func() error { return killGroup(cmd) }
}

// killGroup kills the child with all that it may have started.
func killGroup(cmd *exec.Cmd) error {
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}
