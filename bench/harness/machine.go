package harness

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine is what a figure must be read with: processors, kernel, and the load of the last minute, which is above 0.5 when something
// else was at work.
func Machine() (string, error) {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	minute, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d processors, Linux %s, load %s before", runtime.NumCPU(), strings.TrimSpace(string(kernel)), minute), nil
}
