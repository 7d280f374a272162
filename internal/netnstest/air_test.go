package netnstest_test

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"reconcile/internal/netnstest"
)

// sent sends n numbered packets from one machine to another and returns the numbers in the order in which they come, and how long the first took. It
// returns when all have come, if all must, however long a busy machine takes; else when nothing has come for a second.
func sent(t *testing.T, from, to *netnstest.Machine, addr string, n int, all bool) (got []uint32, first time.Duration) {
	t.Helper()
	in, err := to.ListenUDP(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := from.Dial("udp4", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	began := time.Now()
	for i := range n {
		if _, err := out.Write(binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			t.Fatal(err)
		}
	}
	buf, patience := make([]byte, 64), time.Second
	if all {
		patience = 20 * time.Second
	}
	for !all || len(got) < n {
		if err := in.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		k, _, err := in.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got, first
		}
		if err != nil || k != 4 {
			t.Fatalf("%d bytes, %v", k, err)
		}
		if len(got) == 0 {
			first = time.Since(began)
		}
		got = append(got, binary.BigEndian.Uint32(buf))
	}
	return got, first
}

// TestAir shows that packets are lost, delayed, doubled and overtake each other, in one direction and not in the other.
func TestAir(t *testing.T) {
	lab := netnstest.New(t)
	air := lab.Air(1)
	a := lab.Machine("a").Fly(air, "eth0", "192.168.77.1/24")
	b := lab.Machine("b").Fly(air, "eth0", "192.168.77.2/24")
	const n = 200
	to := func(w netnstest.Weather) ([]uint32, time.Duration) {
		air.Set(a, b, w)
		return sent(t, a, b, "192.168.77.2:99", n, w.Loss == 0 && w.Duplicate == 0)
	}
	back := func() []uint32 {
		got, _ := sent(t, b, a, "192.168.77.1:99", n, true)
		return got
	}
	whole := func(list []uint32) bool { return len(list) == n && slices.IsSorted(list) }
	if got, _ := to(netnstest.Weather{}); !whole(got) {
		t.Errorf("in good weather %d of %d packets came, sorted: %t", len(got), n, slices.IsSorted(got))
	}
	if got, _ := to(netnstest.Weather{Loss: 0.5}); len(got) < n/4 || len(got) > n*3/4 {
		t.Errorf("%d of %d packets came, about half should", len(got), n)
	}
	if got := back(); !whole(got) {
		t.Errorf("in the other direction %d of %d packets came", len(got), n)
	}
	if got, _ := to(netnstest.Weather{Loss: 1}); len(got) > 0 {
		t.Errorf("%d packets came where all are lost", len(got))
	}
	if got, first := to(netnstest.Weather{Delay: 100 * time.Millisecond}); len(got) != n || first < 100*time.Millisecond {
		t.Errorf("%d of %d packets came, the first after %s, want 100 ms", len(got), n, first)
	}
	if got, _ := to(netnstest.Weather{Delay: 50 * time.Millisecond, Jitter: 40 * time.Millisecond}); len(got) != n || slices.IsSorted(got) {
		t.Errorf("%d of %d packets came, in their order: %t", len(got), n, slices.IsSorted(got))
	}
	if got, _ := to(netnstest.Weather{Duplicate: 0.5}); len(got) < n*5/4 {
		t.Errorf("%d packets came of %d of which half come twice", len(got), n)
	}
	air.Clear()
	if got, _ := to(netnstest.Weather{}); !whole(got) {
		t.Errorf("after Clear %d of %d packets came", len(got), n)
	}
}
