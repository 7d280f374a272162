package vmtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Config says what the machine has. The zero value is a machine with loopback, virtio-serial and nothing else.
type Config struct {
	// Modules are loaded in order, each after what it depends on. Those built into the kernel are passed over.
	Modules []string
	// Programs are host programs (absolute, or looked up in PATH) that tests run; the shared libraries they need come along. They
	// keep their paths.
	Programs []string
	// Files are host files to copy, by their path in the guest.
	Files map[string]string
	// Disks are host files that the guest has as raw disks, /dev/vda and so on (with the module virtio_blk).
	Disks []string
	// Env are environment variables of the tests.
	Env map[string]string
	// Prepare, if set, is called on the host before the machine is packed. It may put files that it makes in dir, which is removed
	// after the run, and add them to the configuration.
	Prepare func(dir string, c *Config) error
	// Slow tells that the tests take too long for `make check`: they run only where VMTEST_REQUIRED is set.
	Slow bool
	// MemoryMB is the guest's memory; 0 means 512.
	MemoryMB int
	// CPUs is the number of processors; 0 means 2.
	CPUs int
	// Timeout bounds boot and tests; 0 means 5 minutes.
	Timeout time.Duration

	// blocked is when the kernel is asked for the tasks that it holds, should the tests not have ended; 0 means never.
	blocked time.Duration
}

// Validate lists everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.Programs {
		if _, err := exec.LookPath(p); err != nil {
			errs = append(errs, fmt.Errorf("vmtest: program %s: %w", p, err))
		}
	}
	for guest, host := range c.Files {
		if !filepath.IsAbs(guest) {
			errs = append(errs, fmt.Errorf("vmtest: file %s: its path in the guest is not absolute", guest))
		}
		if _, err := os.Stat(host); err != nil {
			errs = append(errs, fmt.Errorf("vmtest: file %s: %w", guest, err))
		}
	}
	return errors.Join(errs...)
}

// environment variables by which the three lives of a test binary are told apart, and by which missing parts become failures.
const (
	envStage    = "VMTEST_STAGE"
	envRequired = "VMTEST_REQUIRED"
	envKernel   = "VMTEST_KERNEL"
	stageTests  = "tests"
)

// KernelFolder is where the kernel and its modules are: $VMTEST_KERNEL, or reconcile/vmkernel in the user's cache folder.
func KernelFolder() string {
	if dir := os.Getenv(envKernel); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), "cache")
	}
	return filepath.Join(cache, "reconcile", "vmkernel")
}

// Missing says what of the host's part is missing and how to get it, or "".
func Missing() string {
	if _, err := os.Stat(filepath.Join(KernelFolder(), "version")); err != nil {
		return "there is no kernel in " + KernelFolder() + ": run `make vm-kernel`"
	}
	if _, err := exec.LookPath(qemu); err != nil {
		return qemu + " is not installed: run `apt-get install qemu-system-x86`"
	}
	return ""
}

// InGuest tells whether this process runs in a machine: for a package that runs some tests on the host, which use Run.
func InGuest() bool { return os.Getenv(envStage) != "" || os.Getpid() == 1 }

// InTests tells whether this process is one of the tests in a machine, or one that they have started; in the machine there are others.
func InTests() bool { return os.Getenv(envStage) == stageTests }

// Main runs m's tests in a virtual machine and ends the process with their exit code. Call it from TestMain.
func Main(m *testing.M, cfg Config) {
	switch {
	case InTests():
		os.Exit(m.Run())
	case os.Getpid() == 1:
		guest()
	default:
		os.Exit(host(cfg))
	}
}
