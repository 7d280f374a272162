package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// hierarchies are the mount points of the machine's cgroup file systems.
type hierarchies struct {
	// unified is true with cgroup v2 only.
	unified bool
	// mounts by controller (v1), or under "" (v2, and v2 beside v1).
	mounts map[string]string
}

func readHierarchies() (hierarchies, error) {
	h := hierarchies{unified: cgroups.IsCgroup2UnifiedMode(), mounts: map[string]string{}}
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return h, fmt.Errorf("read the cgroup mounts: %w", err)
	}
	for _, m := range infos {
		if m.FSType == "cgroup2" {
			h.mounts[""] = m.Mountpoint
			continue
		}
		for _, o := range strings.Split(m.VFSOptions, ",") {
			switch o {
			case "cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "net_cls", "net_prio", "perf_event", "hugetlb", "rdma", "misc":
				h.mounts[o] = m.Mountpoint
			}
			if strings.HasPrefix(o, "name=") {
				h.mounts[o] = m.Mountpoint
			}
		}
	}
	if len(h.mounts) == 0 {
		return h, errors.New("no cgroup file system is mounted; mount cgroup2 on /sys/fs/cgroup")
	}
	return h, nil
}

// of returns the folder of a cgroup in a controller's hierarchy.
func (h hierarchies) of(controller, cgroup string) string {
	if h.unified {
		controller = ""
	}
	m, ok := h.mounts[controller]
	if !ok {
		return ""
	}
	return filepath.Join(m, cgroup)
}

// dirs are all folders of a cgroup, once each.
func (h hierarchies) dirs(cgroup string) []string {
	seen := map[string]bool{}
	var out []string
	for _, m := range h.mounts {
		if d := filepath.Join(m, cgroup); !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	return out
}

// oomFile is what counts a container's OOM kills.
func (h hierarchies) oomFile(cgroup string) string {
	if h.unified {
		return filepath.Join(h.of("", cgroup), "memory.events")
	}
	if d := h.of("memory", cgroup); d != "" {
		return filepath.Join(d, "memory.oom_control")
	}
	return ""
}

// podCgroup makes a pod's cgroup and sets its limits.
func (h hierarchies) podCgroup(cgroup string, r Resources) error {
	res := &cgroups.Resources{CpuShares: r.CPUShares, CpuQuota: r.CPUQuota, CpuPeriod: r.CPUPeriod, Memory: r.Memory, SkipDevices: true}
	if r.Pids > 0 {
		res.PidsLimit = &r.Pids
	}
	if h.unified && r.CPUShares > 0 {
		res.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares)
	}
	m, err := manager.New(&cgroups.Cgroup{Path: cgroup, Resources: res})
	if err != nil {
		return fmt.Errorf("make cgroup %s: %w", cgroup, err)
	}
	if err := m.Apply(-1); err != nil {
		return fmt.Errorf("make cgroup %s: %w", cgroup, err)
	}
	if err := m.Set(res); err != nil {
		return fmt.Errorf("set the limits of cgroup %s: %w", cgroup, err)
	}
	return nil
}

// shimCgroups makes the cgroup that shims live in and returns its cgroup.procs files.
func (h hierarchies) shimCgroups(prefix string) ([]string, error) {
	var files []string
	for controller, m := range h.mounts {
		if controller == "cpuset" { // needs cpuset.cpus filled in, and limits nothing here
			continue
		}
		d := filepath.Join(m, prefix, "shims")
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make the cgroup of shims: %w", err)
		}
		files = append(files, filepath.Join(d, "cgroup.procs"))
	}
	return files, nil
}

// killCgroup kills every process in a cgroup and below it, until none is left or ctx ends.
func (h hierarchies) killCgroup(ctx context.Context, cgroup string) error {
	for {
		left := 0
		for _, d := range h.dirs(cgroup) {
			_ = os.WriteFile(filepath.Join(d, "cgroup.kill"), []byte("1"), 0)
			left += killTree(d)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill the processes of cgroup %s: %d are left: %w", cgroup, left, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// killTree sends SIGKILL to the processes of a folder and its subfolders and returns how many there were.
func killTree(dir string) int {
	n := 0
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // a cgroup that is gone holds nothing to kill
		}
		b, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // likewise
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
				n++
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return nil
	})
	return n
}

// removeCgroup removes a cgroup and those below it from every hierarchy. A busy one is tried again: the kernel lets go of a killed
// process's cgroup a little later.
func (h hierarchies) removeCgroup(ctx context.Context, cgroup string) error {
	if path.Clean(cgroup) == "/" || cgroup == "" {
		return fmt.Errorf("refuse to remove cgroup %q", cgroup)
	}
	var err error
	for wait := time.Millisecond; ; wait = min(wait*2, 50*time.Millisecond) {
		err = nil
		for _, d := range h.dirs(cgroup) {
			err = errors.Join(err, rmdirTree(d))
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup %s: %w", cgroup, err)
		case <-time.After(wait):
		}
		_ = h.killCgroup(ctx, cgroup)
	}
}

func rmdirTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := rmdirTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// count reads "KEY N" of a cgroup file, 0 when it is not there.
func count(file, key string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for _, l := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(l, key+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// number reads a cgroup file of one number, 0 when it is not there.
func number(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n
}

// stats reads a few files: a tenth of the cost of the whole set.
func (h hierarchies) stats(cgroup string, now time.Time) Stats {
	s := Stats{At: now}
	var inactive uint64
	if h.unified {
		d := h.of("", cgroup)
		s.CPU = time.Duration(count(filepath.Join(d, "cpu.stat"), "usage_usec")) * time.Microsecond
		s.MemoryUsage = number(filepath.Join(d, "memory.current"))
		inactive = count(filepath.Join(d, "memory.stat"), "inactive_file")
		s.Pids = number(filepath.Join(d, "pids.current"))
	} else {
		s.CPU = time.Duration(number(filepath.Join(h.of("cpuacct", cgroup), "cpuacct.usage")))
		s.MemoryUsage = number(filepath.Join(h.of("memory", cgroup), "memory.usage_in_bytes"))
		inactive = count(filepath.Join(h.of("memory", cgroup), "memory.stat"), "total_inactive_file")
		s.Pids = number(filepath.Join(h.of("pids", cgroup), "pids.current"))
	}
	s.MemoryWorkingSet = s.MemoryUsage - min(inactive, s.MemoryUsage)
	return s
}
