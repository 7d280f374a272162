package stats

import (
	"testing"
	"time"
)

func TestBusy(t *testing.T) {
	t.Parallel()
	got, err := busy("cpu  100 20 30 4000 500 6 7 8 50 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
	if want := 1710 * time.Millisecond; err != nil || got != want {
		t.Errorf("busy for %v (%v), want %v: idle and waiting for a disk are not, a guest is counted once", got, err, want)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3", "cpu a b c d e f g h"} {
		if _, err := busy(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestWorkingSet(t *testing.T) {
	t.Parallel()
	got, err := workingSet("MemTotal:       1000 kB\nMemFree:         300 kB\nInactive(file):  200 kB\nInactive:        250 kB\n")
	if err != nil || got != 500*1024 {
		t.Errorf("the working set is %d (%v), want 500 KiB", got, err)
	}
	if _, err := workingSet("MemFree: 3 kB\n"); err == nil {
		t.Error("a machine without memory was read")
	}
}

// TestReadUsage reads this machine: it has been busy, and uses memory that it has.
func TestReadUsage(t *testing.T) {
	t.Parallel()
	u, err := ReadUsage()
	m, merr := ReadMachine("/")
	if err != nil || merr != nil || u.CPU <= 0 || u.MemoryWorkingSet <= 0 || u.MemoryWorkingSet > m.Memory {
		t.Errorf("the machine uses %+v of %d bytes: %v %v", u, m.Memory, err, merr)
	}
}
