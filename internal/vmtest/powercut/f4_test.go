// Package powercut_test cuts the power of a whole machine under a store (F4 of docs/reliability.md): three members on one ext4 file system in a
// virtual machine that is killed while they write, and started again on the same disk.
//
// How data passes through: the guest prints the number of every write that is acknowledged; the host keeps them, kills the machine at a
// moment of chance, and gives the list to the next guest, which must find them all, on every member, before it goes on writing. What the
// guest's kernel had in its memory is lost with it; what it gave to its disk is not, so that a disk that lies about flushes is not tried here but in F3.
package powercut_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"reconcile/internal/faulttest"
	"reconcile/internal/needs"
	"reconcile/internal/vmtest"
	"reconcile/raftstore"
)

func TestMain(m *testing.M) {
	if vmtest.InGuest() {
		vmtest.Main(m, vmtest.Config{})
	}
	faulttest.Main(m)
}

const (
	// ackedFile is where the guest finds what was acknowledged before.
	ackedFile = "/acked"
	// ackedLine begins a line that acknowledges a write, servingLine is printed when all members serve.
	ackedLine, servingLine = "acked ", "serving"
)

// heard is what the host hears of a guest.
type heard struct {
	mu      sync.Mutex
	rest    []byte
	log     bytes.Buffer
	acked   []int
	serving chan struct{}
	once    sync.Once
}

// Write implements io.Writer. A line that a power cut has cut is no acknowledgement.
func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rest = append(h.rest, b...)
	for {
		line, rest, whole := bytes.Cut(h.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		h.rest = rest
		if n, ok := strings.CutPrefix(string(line), ackedLine); ok {
			if i, err := strconv.Atoi(n); err == nil {
				h.acked = append(h.acked, i)
			}
			continue
		}
		fmt.Fprintf(&h.log, "%s\n", line)
		if string(line) == servingLine {
			h.once.Do(func() { close(h.serving) })
		}
	}
}

// F4: the power of the whole machine is cut while three members on its disk write.
func TestF4MachinePowerCut(t *testing.T) {
	rounds := faulttest.Rounds(t, 0, 0, 20)
	if why := vmtest.Missing(); why != "" {
		needs.Missing(t, why)
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 512<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", disk).CombinedOutput(); err != nil {
		t.Fatalf("make a file system: %v: %s", err, out)
	}
	dice := faulttest.NewDice(t, "test")
	var acked []int
	for rounds.Next() {
		more := round(t, dir, disk, acked, 500*time.Millisecond+dice.UpTo(4*time.Second))
		t.Logf("round %d: %d writes were acknowledged and found, %d more until the power was cut", rounds.Made(), len(acked), len(more))
		acked = append(acked, more...)
	}
	round(t, dir, disk, acked, 0)
	if least := 20 * rounds.Made(); len(acked) < least {
		t.Errorf("%d writes were acknowledged; fewer than %d prove too little", len(acked), least)
	}
	faulttest.Report(t, "F4 power cut of the machine", rounds.Made(), faulttest.Verdict{Operations: len(acked), Writes: len(acked)}, nil)
}

// round boots the machine, lets it look for what was acknowledged, and cuts its power so long after it served.
func round(t *testing.T, dir, disk string, acked []int, after time.Duration) []int {
	t.Helper()
	var list strings.Builder
	for _, n := range acked {
		fmt.Fprintln(&list, n)
	}
	file := filepath.Join(dir, "acked")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	h := &heard{serving: make(chan struct{})}
	cfg := vmtest.Config{
		Modules: []string{"virtio_blk"}, Disks: []string{disk}, MemoryMB: 1024,
		Files: map[string]string{ackedFile: file},
	}
	ended := make(chan error, 1)
	go func() {
		code, err := vmtest.Run(ctx, cfg, h, "-test.run=^TestGuest$", "-test.v=false", "-test.timeout=5m")
		if err == nil {
			err = fmt.Errorf("the guest ended with code %d", code)
		}
		ended <- err
	}()
	select {
	case <-h.serving:
	case err := <-ended:
		t.Fatalf("the machine does not serve: %v\n%s", err, h.log.String())
	case <-time.After(3 * time.Minute):
		cut()
		t.Fatalf("the machine does not serve within 3 minutes: %v\n%s", <-ended, h.log.String())
	}
	select {
	case <-time.After(after):
	case err := <-ended:
		t.Fatalf("the machine ended by itself: %v\n%s", err, h.log.String())
	}
	cut()
	<-ended
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked
}

// TestGuest runs in the machine: it looks for what was acknowledged and then writes until the power is cut.
func TestGuest(t *testing.T) {
	if !vmtest.InGuest() {
		t.Skip("skipped: TestF4MachinePowerCut runs it in a virtual machine")
	}
	if err := os.MkdirAll("/disk", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/dev/vda", "/disk", "ext4", 0, ""); err != nil {
		t.Fatalf("mount the disk: %v", err)
	}
	acked := readAcked(t)
	members := openMembers(t)
	lead := leaderOf(t, members)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rev, err := lead.ReadIndex(ctx)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	for i, s := range members {
		if err := s.WaitRev(ctx, rev); err != nil {
			t.Fatalf("member %d does not come to revision %d: %v", i+1, rev, err)
		}
		lost := 0
		for _, n := range acked {
			if r, ok := s.View().Get(keyOf(n)); !ok || string(r.Value) != valueOf(n) {
				lost++
			}
		}
		if lost > 0 {
			t.Fatalf("member %d has lost %d of %d acknowledged writes", i+1, lost, len(acked))
		}
	}
	fmt.Println(servingLine)
	write(t, members, lead.View().Rev())
}

func keyOf(n int) string   { return fmt.Sprintf("/kv/%d", n) }
func valueOf(n int) string { return strings.Repeat(fmt.Sprint(n, " "), 40) }

func readAcked(t *testing.T) (out []int) {
	t.Helper()
	b, err := os.ReadFile(ackedFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

// openMembers opens three members on folders of the disk.
func openMembers(t *testing.T) []*raftstore.Store {
	t.Helper()
	var servers []raftstore.Server
	for i := range 3 {
		servers = append(servers, raftstore.Server{ID: fmt.Sprintf("m%d", i+1), Address: fmt.Sprintf("127.0.0.1:%d", 7001+i), Voter: true})
	}
	var out []*raftstore.Store
	for _, m := range servers {
		transport, err := raft.NewTCPTransport(m.Address, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7001 + len(out)}, 3, 10*time.Second, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join("/disk", m.ID)
		_, err = os.Stat(dir)
		s, err := raftstore.Open(raftstore.Config{Dir: dir, ServerID: m.ID, ClusterID: "f4", Transport: transport, Bootstrap: err != nil, Servers: servers,
			SnapshotEntries: 200, TrailingEntries: 50, SnapshotInterval: time.Second})
		if err != nil {
			t.Fatalf("open member %s: %v", m.ID, err)
		}
		out = append(out, s)
	}
	return out
}

func leaderOf(t *testing.T, members []*raftstore.Store) *raftstore.Store {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, s := range members {
			if s.Leader().Self {
				return s
			}
		}
	}
	t.Fatal("no leader within a minute")
	return nil
}

// write writes until the power is cut, four entries at a time, and prints the number of each that is acknowledged. Numbers begin behind
// the revision: each write takes one.
func write(t *testing.T, members []*raftstore.Store, rev uint64) {
	n := int(rev)
	for {
		lead := leaderOf(t, members)
		type flight struct {
			n int
			p *raftstore.Pending
		}
		var flights []flight
		base := lead.View().Rev()
		for range 4 {
			n++
			p, err := lead.Start(t.Context(), raftstore.Entry{Base: base, Time: time.Now().UnixNano(), Ops: []raftstore.Op{{Kind: raftstore.Put, Key: keyOf(n), Value: []byte(valueOf(n))}}})
			if err != nil {
				break
			}
			base++
			flights = append(flights, flight{n, p})
		}
		for _, f := range flights {
			if _, err := f.p.Wait(t.Context()); err == nil {
				fmt.Println(ackedLine + strconv.Itoa(f.n))
			}
		}
	}
}
