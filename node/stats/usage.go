package stats

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what the whole machine uses.
type Usage struct {
	At time.Time
	// Boot is when the machine was started, to the second; zero if the kernel does not tell.
	Boot time.Time
	// CPU is the time that all processors were busy since the boot.
	CPU time.Duration
	// MemoryWorkingSet in bytes: what is used, without pages of files that were not touched lately.
	MemoryWorkingSet int64
	// MemoryUsage in bytes: what is not free.
	MemoryUsage int64
}

// ticks is how many units of /proc/stat make a second: USER_HZ, which is 100 on every architecture that Go runs Linux on.
const ticks = 100

// ReadUsage reads what the machine uses.
func ReadUsage() (Usage, error) {
	u := Usage{At: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, fmt.Errorf("read the machine's usage: %w", err)
	}
	if u.CPU, err = busy(string(stat)); err != nil {
		return u, err
	}
	u.Boot = boot(string(stat))
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return u, fmt.Errorf("read the machine's usage: %w", err)
	}
	u.MemoryUsage, u.MemoryWorkingSet, err = memory(string(mem))
	return u, err
}

// busy sums what processors did but wait (proc(5): user nice system idle iowait irq softirq steal guest guest_nice; a guest's time is in user's).
func busy(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("read the machine's usage: /proc/stat begins with %q", line)
	}
	sum := uint64(0)
	for i, v := range f[1:9] {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the machine's usage: /proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			sum += n
		}
	}
	return time.Duration(sum) * (time.Second / ticks), nil
}

func boot(stat string) time.Time {
	for _, l := range strings.Split(stat, "\n") {
		if text, ok := strings.CutPrefix(l, "btime "); ok {
			if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
				return time.Unix(seconds, 0)
			}
		}
	}
	return time.Time{}
}

// memory is what is used, and what of it is in use lately.
func memory(meminfo string) (usage, workingSet int64, err error) {
	kib := map[string]int64{}
	for _, l := range strings.Split(meminfo, "\n") {
		if f := strings.Fields(l); len(f) >= 2 {
			kib[strings.TrimSuffix(f[0], ":")], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	if kib["MemTotal"] == 0 {
		return 0, 0, fmt.Errorf("read the machine's usage: /proc/meminfo has no MemTotal")
	}
	usage = max(0, kib["MemTotal"]-kib["MemFree"])
	return usage * 1024, max(0, usage-kib["Inactive(file)"]) * 1024, nil
}
