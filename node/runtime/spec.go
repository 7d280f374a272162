package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

// defaultCaps are those of containerd and Docker.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCaps in the kernel's order; the last ones are dropped where the kernel is older.
var allCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

var (
	maskedPaths = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// caps are the capabilities of a container. bounding holds what this process may give: a kernel or a host may have fewer.
func caps(c ContainerConfig, bounding []string) []string {
	out := slices.Clone(defaultCaps)
	if c.Privileged {
		out = slices.Clone(allCaps)
	}
	full := func(n string) string { return "CAP_" + strings.TrimPrefix(strings.ToUpper(n), "CAP_") }
	has := func(list []string, n string) bool {
		return slices.ContainsFunc(list, func(x string) bool { return full(x) == full(n) })
	}
	if has(c.CapAdd, "ALL") {
		out = slices.Clone(allCaps)
	}
	if has(c.CapDrop, "ALL") {
		out = nil
	}
	for _, n := range c.CapAdd {
		if full(n) != "CAP_ALL" && !slices.Contains(out, full(n)) {
			out = append(out, full(n))
		}
	}
	out = slices.DeleteFunc(out, func(n string) bool { return has(c.CapDrop, n) || (c.Privileged && !slices.Contains(bounding, n)) })
	return out
}

// placement is what of the spec depends on the machine and the sandbox.
type placement struct {
	dir, cgroup   string
	net, ipc, uts string
	shm           string
	unified       bool
	bounding      []string
}

// newSpec is the OCI configuration of a container: containerd's defaults with Kubernetes' choices.
func newSpec(c ContainerConfig, p placement) (*specs.Spec, []bundle.SubPath, error) {
	s := &specs.Spec{Version: specs.Version, Root: &specs.Root{Readonly: c.ReadOnlyRootFS}}
	list := caps(c, p.bounding)
	adj := c.Resources.OOMScoreAdj
	s.Process = &specs.Process{
		Terminal: c.TTY, Args: c.Args, Env: c.Env, Cwd: c.Cwd, NoNewPrivileges: c.NoNewPrivileges, OOMScoreAdj: &adj,
		Capabilities: &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list},
	}
	if s.Process.Cwd == "" {
		s.Process.Cwd = "/"
	}
	if c.TTY {
		s.Process.Env = append(slices.Clone(c.Env), "TERM=xterm")
	}
	s.Linux = &specs.Linux{CgroupsPath: p.cgroup, Sysctl: c.Sysctls, Resources: resources(c.Resources, p.unified), Devices: c.Devices,
		Namespaces: namespaces(c, p)}
	if c.Privileged {
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		s.Linux.ReadonlyPaths, s.Linux.MaskedPaths = readonlyPaths, maskedPaths
		if c.UnmaskProc {
			s.Linux.ReadonlyPaths, s.Linux.MaskedPaths = nil, nil
		}
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	}
	if err := setSeccomp(s, c); err != nil {
		return nil, nil, err
	}
	s.Mounts = baseMounts(c, p)
	subs, err := addMounts(s, c)
	if c.TerminationLog != "" {
		s.Mounts = append(s.Mounts, bind(filepath.Join(p.dir, wire.TerminationLog), c.TerminationLog, false, ""))
	}
	return s, subs, err
}

func setSeccomp(s *specs.Spec, c ContainerConfig) error {
	switch {
	case c.Privileged || c.Seccomp == "Unconfined":
	case c.Seccomp == "":
		s.Linux.Seccomp = seccomp.DefaultProfile(s)
		// The native architecture only: the filters for 32-bit programs cost 15 ms of CPU a start (DESIGN.md).
		s.Linux.Seccomp.Architectures = s.Linux.Seccomp.Architectures[:min(1, len(s.Linux.Seccomp.Architectures))]
	default:
		b, err := os.ReadFile(c.Seccomp)
		if err != nil {
			return &StartError{Message: fmt.Sprintf("seccomp profile: %v", err)}
		}
		s.Linux.Seccomp = &specs.LinuxSeccomp{}
		if err := json.Unmarshal(b, s.Linux.Seccomp); err != nil {
			return &StartError{Message: fmt.Sprintf("seccomp profile %s: %v", c.Seccomp, err)}
		}
	}
	return nil
}

func namespaces(c ContainerConfig, p placement) []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !c.HostPID {
		out = append(out, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	for t, path := range map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: p.net, specs.IPCNamespace: p.ipc, specs.UTSNamespace: p.uts} {
		if path != "" {
			out = append(out, specs.LinuxNamespace{Type: t, Path: path})
		}
	}
	if p.unified && !c.Privileged {
		out = append(out, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	slices.SortFunc(out, func(a, b specs.LinuxNamespace) int { return strings.Compare(string(a.Type), string(b.Type)) })
	return out
}

func resources(r Resources, unified bool) *specs.LinuxResources {
	out := &specs.LinuxResources{}
	if r.CPUShares > 0 || r.CPUQuota > 0 {
		out.CPU = &specs.LinuxCPU{}
		if r.CPUShares > 0 {
			out.CPU.Shares = &r.CPUShares
		}
		if r.CPUQuota > 0 {
			period := r.CPUPeriod
			if period == 0 {
				period = 100000
			}
			out.CPU.Quota, out.CPU.Period = &r.CPUQuota, &period
		}
	}
	if r.Memory > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &r.Memory}
		if unified { // an OOM ends the whole container, not one of its processes
			out.Unified = map[string]string{"memory.oom.group": "1"}
		}
	}
	if r.Pids > 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.Pids}
	}
	return out
}

func baseMounts(c ContainerConfig, p placement) []specs.Mount {
	ro := "ro"
	if c.Privileged {
		ro = "rw"
	}
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", ro}},
	}
	if p.shm != "" {
		out = append(out, bind(p.shm, "/dev/shm", false, ""))
	}
	return out
}

func bind(source, target string, readOnly bool, propagation string) specs.Mount {
	o := []string{"rbind", "rprivate"}
	switch propagation {
	case "HostToContainer":
		o[1] = "rslave"
	case "Bidirectional":
		o[1] = "rshared"
	}
	if readOnly {
		o = append(o, "ro")
	} else {
		o = append(o, "rw")
	}
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: o}
}

// addMounts adds the caller's mounts, those nearer the root first, and lists those that are a path in a volume.
func addMounts(s *specs.Spec, c ContainerConfig) ([]bundle.SubPath, error) {
	mounts := slices.Clone(c.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	var subs []bundle.SubPath
	for _, m := range mounts {
		if !filepath.IsAbs(m.Target) {
			m.Target = filepath.Join("/", m.Target)
		}
		if !filepath.IsAbs(m.Source) {
			return nil, &StartError{Message: fmt.Sprintf("mount at %s: source %q is not absolute", m.Target, m.Source)}
		}
		if m.SubPath != "" {
			subs = append(subs, bundle.SubPath{Mount: len(s.Mounts), Root: m.Source, Path: m.SubPath, ReadOnly: m.ReadOnly})
		}
		// What the pod mounts at a place of the base set replaces it.
		s.Mounts = slices.DeleteFunc(s.Mounts, func(o specs.Mount) bool {
			return o.Destination == m.Target && o.Destination != "/proc" && o.Destination != "/dev" && len(subs) == 0
		})
		s.Mounts = append(s.Mounts, bind(m.Source, m.Target, m.ReadOnly, m.Propagation))
	}
	return subs, nil
}
