package netnstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reconcile/internal/needs"
)

// folder is where namespaces are bound, as iproute2 has it.
const folder = "/run/netns"

// prefix begins the names of all namespaces of this package; the process id follows it.
const prefix = "rct-"

// Lab is a set of machines and switches that live as long as one test. Its methods fail the test instead of returning errors,
// and must be called by the test's goroutine.
type Lab struct {
	t        testing.TB
	id       string
	hub      *Machine
	machines []*Machine
	switches int
	cuts     [][2]*Machine
}

// New makes an empty lab that is removed when t ends. It skips t when the process is not root.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "network namespaces need root; run `sudo -E make test`")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatalf("make the folder of network namespaces: %v", err)
	}
	sweep()
	l := &Lab{t: t}
	t.Cleanup(l.close)
	// The bridges of all switches live in a namespace of their own, so that the host's gets no interface. It also claims the lab's
	// number: parallel tests of this process, whose labs would have it too, find its file there.
	for n := 1; l.hub == nil; n++ {
		l.id = fmt.Sprintf("%s%d-%d-", prefix, os.Getpid(), n)
		hub, err := newMachine("hub", filepath.Join(folder, l.id+"hub"))
		if errors.Is(err, os.ErrExist) {
			continue
		}
		l.hub = l.enter(hub, err)
	}
	return l
}

// Machine makes a machine with a loopback interface and nothing else. IPv4 forwarding is on.
func (l *Lab) Machine(name string) *Machine {
	l.t.Helper()
	m, err := newMachine(name, filepath.Join(folder, l.id+name))
	return l.enter(m, err)
}

// enter takes a new machine in and brings up what every one has.
func (l *Lab) enter(m *Machine, err error) *Machine {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("make a machine: %v", err)
	}
	l.machines = append(l.machines, m)
	m.lab = l
	m.Link("lo", func(h *netlink.Handle, lo netlink.Link) error { return h.LinkSetUp(lo) })
	if err := m.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		l.t.Fatal(err)
	}
	return m
}

// Switch is an Ethernet switch between machines.
type Switch struct {
	lab   *Lab
	link  string
	ports int
}

// Switch makes a switch that nothing is attached to.
func (l *Lab) Switch(name string) *Switch {
	l.t.Helper()
	l.switches++
	s := &Switch{lab: l, link: fmt.Sprintf("sw%d", l.switches)}
	l.hub.handle(func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s.link, Alias: name}}); err != nil {
			return fmt.Errorf("add bridge for switch %s: %w", name, err)
		}
		link, err := h.LinkByName(s.link)
		if err != nil {
			return err
		}
		return h.LinkSetUp(link)
	})
	return s
}

// Attach joins m to a switch by an interface of the given name with the given addresses ("192.168.77.1/24"). It returns m.
func (m *Machine) Attach(s *Switch, ifname string, addrs ...string) *Machine {
	m.lab.t.Helper()
	s.ports++
	port := fmt.Sprintf("%sp%d", s.link, s.ports)
	m.lab.hub.Pair(port, m, ifname)
	m.lab.hub.handle(func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(s.link)
		if err != nil {
			return err
		}
		link, err := h.LinkByName(port)
		if err != nil {
			return err
		}
		return h.LinkSetMaster(link, bridge)
	})
	for _, a := range addrs {
		m.Addr(ifname, a)
	}
	return m
}

// Pair joins two machines by a cable: interface ifname of m and interface otherIf of other, both up, without addresses.
func (m *Machine) Pair(ifname string, other *Machine, otherIf string) {
	m.lab.t.Helper()
	m.handle(func(h *netlink.Handle) error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: ifname}, PeerName: otherIf, PeerNamespace: netlink.NsFd(other.fd())}
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("add cable %s:%s to %s:%s: %w", m.Name, ifname, other.Name, otherIf, err)
		}
		return nil
	})
	up := func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetUp(link) }
	m.Link(ifname, up)
	other.Link(otherIf, up)
}

// Cut stops whatever machine `from` sends, also for the pods behind it, from reaching `to`, by the Ethernet address it is sent
// from. The other direction stays. Cutting twice is the same as once.
func (l *Lab) Cut(from, to *Machine) {
	l.t.Helper()
	l.cuts = append(l.cuts, [2]*Machine{from, to})
	l.firewall(to)
}

// Partition cuts both directions between every machine of a and every machine of b.
func (l *Lab) Partition(a, b []*Machine) {
	l.t.Helper()
	for _, x := range a {
		for _, y := range b {
			l.Cut(x, y)
			l.Cut(y, x)
		}
	}
}

// Heal undoes all cuts.
func (l *Lab) Heal() {
	l.t.Helper()
	cut := l.cuts
	l.cuts = nil
	for _, c := range cut {
		l.firewall(c[1])
	}
}

// firewall makes m's table of dropped senders what the cuts say, in one batch.
func (l *Lab) firewall(m *Machine) {
	l.t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(m.fd()))
	if err != nil {
		l.t.Fatalf("cut %s: %v", m.Name, err)
	}
	table := &nftables.Table{Name: "netnstest", Family: nftables.TableFamilyIPv4}
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	chain := c.AddChain(&nftables.Chain{Name: "cut", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	for _, cut := range l.cuts {
		if cut[1] != m {
			continue
		}
		for _, mac := range cut[0].macs() {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: mac},
				&expr.Verdict{Kind: expr.VerdictDrop},
			}})
		}
	}
	if err := c.Flush(); err != nil {
		l.t.Fatalf("cut %s: %v", m.Name, err)
	}
}

// macs are the Ethernet addresses that m sends from.
func (m *Machine) macs() []net.HardwareAddr {
	var out []net.HardwareAddr
	m.handle(func(h *netlink.Handle) error {
		links, err := h.LinkList()
		for _, link := range links {
			if mac := link.Attrs().HardwareAddr; len(mac) == 6 && link.Attrs().Flags&net.FlagLoopback == 0 {
				out = append(out, mac)
			}
		}
		return err
	})
	return out
}

// Close removes the lab's machines before the test ends. Nothing of the lab may be used afterwards.
func (l *Lab) Close() {
	l.t.Helper()
	l.close()
	l.machines = nil
}

func (l *Lab) close() {
	for i := len(l.machines) - 1; i >= 0; i-- {
		if err := l.machines[i].close(); err != nil {
			l.t.Errorf("remove machine %s: %v", l.machines[i].Name, err)
		}
	}
}

// sweep removes the namespaces of test processes that no longer exist.
func sweep() {
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if err != nil || unix.Kill(pid, 0) == nil {
			continue
		}
		path := filepath.Join(folder, e.Name())
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = os.Remove(path)
	}
}
