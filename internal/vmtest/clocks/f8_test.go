// Package clocks_test sets the clock of a whole machine under the store (F8 of docs/reliability.md): three members, each a process, in a virtual machine whose
// kernel's time of day is set and made to run too fast and too slow, while clients write, keep leases and take locks.
//
// How data passes through: the host boots the machine with this test binary; in it the binary is test, load and members (internal/faulttest). Other than
// the failpoint "wall", which only some of our own code reads, this clock is what every call in the members' processes shows.
package clocks_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reconcile/internal/faulttest"
	"reconcile/internal/needs"
	"reconcile/internal/vmtest"
)

func TestMain(m *testing.M) {
	if vmtest.InGuest() && !vmtest.InTests() {
		vmtest.Main(m, vmtest.Config{})
	}
	faulttest.Main(m)
}

// F8: the machine's clock is set by an hour and ten years, both ways, and runs a tenth too fast and too slow. There is no election, and no lease ends.
func TestF8MachineClock(t *testing.T) {
	faulttest.Rounds(t, 0, 1, 1)
	if why := vmtest.Missing(); why != "" {
		needs.Missing(t, why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cfg := vmtest.Config{MemoryMB: 1024, Env: map[string]string{}}
	for _, name := range []string{faulttest.FaultsVariable, faulttest.FaultTimeVariable, faulttest.SeedVariable} {
		cfg.Env[name] = os.Getenv(name)
	}
	var out bytes.Buffer
	code, err := vmtest.Run(ctx, cfg, &out, "-test.run=^TestGuest$", "-test.v", "-test.timeout=14m")
	t.Logf("in the machine:\n%s", out.String())
	if err != nil || code != 0 {
		t.Errorf("the machine ended with code %d, %v", code, err)
	}
}

// TestGuest runs in the machine.
func TestGuest(t *testing.T) {
	if !vmtest.InGuest() {
		t.Skip("skipped: TestF8MachineClock runs it in a virtual machine")
	}
	rounds := faulttest.Rounds(t, 0, len(settings), 10*len(settings))
	// The machine is emulated: elections after 5 s are none that its slowness makes.
	c := faulttest.Start(t, faulttest.Config{Heartbeat: 5 * time.Second})
	load := c.Load(faulttest.LoadConfig{Keys: 10, Think: 20 * time.Millisecond, Timeout: 20 * time.Second})
	load.AcknowledgedOnAll(time.Minute)
	before := c.Term()
	for rounds.Next() {
		s := settings[(rounds.Made()-1)%len(settings)]
		was := time.Now()
		if err := s.set(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		faulttest.Pause(3 * time.Second)
		load.AcknowledgedOnAll(time.Minute)
		now := time.Now()
		t.Logf("%s: the clock showed %s, and %s later %s", s.name, was.Format(time.DateTime), now.Sub(was).Round(time.Second), now.Format(time.DateTime))
		if moved := now.Round(0).Sub(was.Round(0)) - now.Sub(was); s.by != 0 && (moved-s.by).Abs() > time.Minute {
			t.Errorf("%s: the clock was set by %s", s.name, moved)
		}
	}
	if after := c.Term(); after != before {
		t.Errorf("the term grew from %d to %d because the clock was set", before, after)
	}
	faulttest.Report(t, "F8 the machine's clock set", rounds.Made(), load.Finish(rounds.Made()*40), nil)
}

// settings are what is done to the clock, one after the other: in the end it shows the right time again.
var settings = []struct {
	name string
	by   time.Duration
	set  func() error
}{
	{"an hour ahead", time.Hour, setBy(time.Hour)},
	{"back", -time.Hour, setBy(-time.Hour)},
	{"an hour behind", -time.Hour, setBy(-time.Hour)},
	{"ten years ahead", 87601 * time.Hour, setBy(87601 * time.Hour)},
	{"twenty years back", -2 * 87600 * time.Hour, setBy(-2 * 87600 * time.Hour)},
	{"back from ten years behind", 87600 * time.Hour, setBy(87600 * time.Hour)},
	{"a tenth too fast", 0, ticks(11000)},
	{"a tenth too slow", 0, ticks(9000)},
	{"at its pace", 0, ticks(10000)},
}

// setBy sets the kernel's time of day.
func setBy(d time.Duration) func() error {
	return func() error {
		to := unix.NsecToTimespec(time.Now().Add(d).UnixNano())
		return unix.ClockSettime(unix.CLOCK_REALTIME, &to)
	}
}

// adjTick is ADJ_TICK of adjtimex(2).
const adjTick = 0x4000

// ticks sets how many microseconds the kernel adds for each hundredth of a second.
func ticks(n int64) func() error {
	return func() error {
		_, err := unix.Adjtimex(&unix.Timex{Modes: adjTick, Tick: n})
		return err
	}
}
