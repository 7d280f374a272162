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
	all, got, err := memory("MemTotal:       1000 kB\nMemFree:         300 kB\nInactive(file):  200 kB\nInactive:        250 kB\n")
	if err != nil || got != 500*1024 || all != 700*1024 {
		t.Errorf("the working set is %d of %d (%v), want 500 of 700 KiB", got, all, err)
	}
	if _, _, err := memory("MemFree: 3 kB\n"); err == nil {
		t.Error("a machine without memory was read")
	}
}

func TestBoot(t *testing.T) {
	t.Parallel()
	if got := boot("cpu  1 2\nctxt 5\nbtime 1700000000\nprocesses 6\n"); got.Unix() != 1700000000 {
		t.Errorf("started at %s", got)
	}
	if got := boot("cpu  1 2\nbtime soon\n"); !got.IsZero() {
		t.Errorf("started at %s, which nobody told", got)
	}
}

// TestReadUsage reads this machine: it has been busy, and uses memory that it has.
func TestReadUsage(t *testing.T) {
	t.Parallel()
	u, err := ReadUsage()
	m, merr := ReadMachine("/")
	if err != nil || merr != nil || u.CPU <= 0 || u.MemoryWorkingSet <= 0 || u.MemoryWorkingSet > u.MemoryUsage || u.MemoryUsage > m.Memory {
		t.Errorf("the machine uses %+v of %d bytes: %v %v", u, m.Memory, err, merr)
	}
}
