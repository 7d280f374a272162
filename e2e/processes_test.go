package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"reconcile/agent"
)

// process is a process of this host, read from /proc. Containers share the host's process numbers with their agents.
type process struct {
	pid     int
	cmdline string
}

// processes lists all processes; those that end meanwhile may be missing.
func processes() []process {
	var out []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil {
			continue
		}
		out = append(out, process{pid, string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))})
	}
	return out
}

// processOf finds the one process whose command line is wanted.
func processOf(t *testing.T, what string, want func(cmdline string) bool) int {
	t.Helper()
	var found []process
	for _, p := range processes() {
		if want(p.cmdline) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		t.Fatalf("found %d processes that are %s: %v", len(found), what, found)
	}
	return found[0].pid
}

func sigkill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill -9 %d: %v", pid, err)
	}
}

// leftovers lists what a machine has left on this host after reset: processes, mounts, folders, cgroups.
func leftovers(dataDir string) []string {
	var left []string
	run, group := agent.RunDir(dataDir), agent.CgroupPrefix(dataDir)
	for _, p := range processes() {
		cgroups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
		if strings.Contains(p.cmdline, dataDir) || strings.Contains(p.cmdline, run) || strings.Contains(string(cgroups), group) {
			left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.cmdline))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dataDir) || strings.Contains(line, run) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	for _, pattern := range []string{dataDir, run, "/sys/fs/cgroup" + group, "/sys/fs/cgroup/*" + group} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return left
}
