package vmtest_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reconcile/internal/vmtest"
)

// TestMain is all that a package needs for its tests to run in a machine of their own.
func TestMain(m *testing.M) {
	vmtest.Main(m, vmtest.Config{Modules: []string{"overlay"}})
}

// TestExample shows that the test runs as root of another kernel: one with cgroup v2 at its usual place.
func TestExample(t *testing.T) {
	version, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", version)
	if !strings.Contains(string(version), "cloud-amd64") {
		t.Error("this is not the guest's kernel")
	}
	controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control")
	if err != nil || !strings.Contains(string(controllers), "memory") {
		t.Errorf("cgroup controllers %q, %v", controllers, err)
	}
}

// TestPivotRoot shows that containers can be started: the root is a file system that can be pivoted away from.
func TestPivotRoot(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/", &st); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.TMPFS_MAGIC || !strings.Contains(string(mounts), "tmpfs / tmpfs") {
		t.Errorf("the root is no tmpfs of its own:\n%s", mounts)
	}
}

// TestModules shows that modules and what they depend on are loaded.
func TestModules(t *testing.T) {
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil || !strings.Contains(string(kinds), "overlay") {
		t.Errorf("file systems %q, %v", kinds, err)
	}
}

// TestTestdata shows that the package's testdata is there.
func TestTestdata(t *testing.T) {
	b, err := os.ReadFile("testdata/hello.txt")
	if err != nil || string(b) != "hello\n" {
		t.Errorf("testdata/hello.txt: %q, %v", b, err)
	}
}
