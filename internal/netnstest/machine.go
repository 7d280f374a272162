package netnstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Machine is one network namespace.
type Machine struct {
	// Name is the machine's within its lab.
	Name string
	// Path is where the namespace is bound, for `nsenter --net=PATH`.
	Path string

	lab  *Lab
	file *os.File
}

// newMachine makes a namespace and binds it at path.
func newMachine(name, path string) (*Machine, error) {
	bind, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, fmt.Errorf("make the name of the namespace: %w", err)
	}
	_ = bind.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare the network namespace: %w", err)
		}
		own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Machine{Name: name, Path: path, file: f}, nil
}

func (m *Machine) fd() int { return int(m.file.Fd()) }

func (m *Machine) close() error {
	return errors.Join(m.file.Close(), unix.Unmount(m.Path, unix.MNT_DETACH), os.Remove(m.Path))
}

// Do runs f in the machine's network namespace and returns its error. Sockets that f opens stay in the namespace wherever they
// are used; goroutines that f starts do not run in it.
func (m *Machine) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(m.fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter machine %s: %w", m.Name, err)
		}
		return f()
	})
}

// onThread runs f on a thread that does nothing else and ends with f, so that a namespace entered by f goes nowhere.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// A goroutine that ends while locked takes its thread with it.
		runtime.LockOSThread()
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic in a machine: %v", p)
			}
		}()
		done <- f()
	}()
	return <-done
}

// Start starts cmd with the machine's network, and everything else as this process has it.
func (m *Machine) Start(cmd *exec.Cmd) error { return m.Do(cmd.Start) }

// Command is a process of the machine that Run, Output and CombinedOutput of the result start in it. nsenter changes the network
// namespace only.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + m.Path, "--", name}, args...)...)
}

// Listen listens for TCP on the machine.
func (m *Machine) Listen(addr string) (net.Listener, error) {
	var l net.Listener
	err := m.Do(func() (err error) { l, err = net.Listen("tcp4", addr); return })
	return l, err
}

// ListenUDP listens for UDP on the machine.
func (m *Machine) ListenUDP(addr string) (net.PacketConn, error) {
	var l net.PacketConn
	err := m.Do(func() (err error) { l, err = net.ListenPacket("udp4", addr); return })
	return l, err
}

// Dial connects from the machine; network is "tcp4" or "udp4" and addr has an IP address.
func (m *Machine) Dial(network, addr string, timeout time.Duration) (net.Conn, error) {
	var c net.Conn
	err := m.Do(func() (err error) { c, err = net.DialTimeout(network, addr, timeout); return })
	return c, err
}

// Sysctl sets a kernel parameter of the machine's network ("net/ipv4/ip_forward").
func (m *Machine) Sysctl(name, value string) error {
	return m.Do(func() error {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			return fmt.Errorf("set %s of machine %s: %w", strings.ReplaceAll(name, "/", "."), m.Name, err)
		}
		return nil
	})
}

// Addr adds an address ("10.0.0.1/24") to an interface.
func (m *Machine) Addr(ifname, cidr string) {
	m.lab.t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		m.lab.t.Fatalf("address %q for %s: %v", cidr, m.Name, err)
	}
	m.Link(ifname, func(h *netlink.Handle, link netlink.Link) error { return h.AddrAdd(link, addr) })
}

// Route adds a route to dst ("default" or a prefix) through a gateway address.
func (m *Machine) Route(dst, via string) {
	m.lab.t.Helper()
	r := &netlink.Route{Gw: net.ParseIP(via)}
	if dst != "default" {
		_, n, err := net.ParseCIDR(dst)
		if err != nil {
			m.lab.t.Fatalf("route to %q for %s: %v", dst, m.Name, err)
		}
		r.Dst = n
	}
	m.handle(func(h *netlink.Handle) error {
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("route to %s via %s: %w", dst, via, err)
		}
		return nil
	})
}

// Link calls f with one of the machine's interfaces.
func (m *Machine) Link(ifname string, f func(*netlink.Handle, netlink.Link) error) {
	m.lab.t.Helper()
	m.handle(func(h *netlink.Handle) error {
		link, err := h.LinkByName(ifname)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", ifname, err)
		}
		return f(h, link)
	})
}

// Netlink calls f with a netlink handle of the machine and fails the test on an error.
func (m *Machine) Netlink(f func(*netlink.Handle) error) {
	m.lab.t.Helper()
	m.handle(f)
}

// handle calls f with a netlink handle of the machine and fails the test on an error.
func (m *Machine) handle(f func(*netlink.Handle) error) {
	m.lab.t.Helper()
	err := m.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	})
	if err != nil {
		m.lab.t.Fatalf("machine %s: %v", m.Name, err)
	}
}
