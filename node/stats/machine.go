package stats

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what is there: amounts in milli-CPUs and bytes.
type Machine struct {
	MilliCPU, Memory, Disk int64
	// DiskPressure is why the disk counts as too full; empty if it does not. ReadMachine leaves it empty.
	DiskPressure                                             string
	MachineID, SystemUUID, BootID, Kernel, OSImage, OS, Arch string
}

// ReadMachine reads the machine; Disk is the size of the file system that holds dir.
func ReadMachine(dir string) (Machine, error) {
	m := Machine{MilliCPU: int64(goruntime.NumCPU()) * 1000, OS: goruntime.GOOS, Arch: goruntime.GOARCH}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return m, fmt.Errorf("read the size of the file system of %s: %w", dir, err)
	}
	m.Disk = int64(fs.Blocks) * fs.Bsize
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, fmt.Errorf("read the machine's memory: %w", err)
	}
	if m.Memory, err = memTotal(b); err != nil {
		return m, err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, fmt.Errorf("read the kernel's version: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	m.BootID = line("/proc/sys/kernel/random/boot_id")
	m.MachineID = line("/etc/machine-id")
	m.SystemUUID = line("/sys/class/dmi/id/product_uuid")
	m.OSImage = prettyName("/etc/os-release")
	return m, nil
}

// BootID is the kernel's name of the present boot, empty where it has none.
func BootID() string { return line("/proc/sys/kernel/random/boot_id") }

func memTotal(meminfo []byte) (int64, error) {
	for sc := bufio.NewScanner(bytes.NewReader(meminfo)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("read the machine's memory: /proc/meminfo has no MemTotal")
}

// line is a file's first line, empty if it cannot be read: these facts are optional.
func line(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	s, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(s)
}

func prettyName(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "Linux"
	}
	for _, l := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(l, "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}
