// Package host has what both of the proxy's kernels need of the machine beside their rules: the route that makes service
// addresses local, kernel parameters, and the removal of stale connection tracking entries.
//
// It owns one route, marked with a protocol number of its own. It knows nothing of services.
//
// How data passes through: the callers say what is wanted; it compares with what the machine has and changes the difference.
package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteProtocol marks our routes (rtm_protocol), so that they are told from others'. Values from 187 on are free in iproute2's table.
const RouteProtocol = 188

// Host is a handle on the network namespace of the thread that opened it.
type Host struct{ h *netlink.Handle }

// Open connects to the calling thread's network namespace.
func Open() (*Host, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &Host{h: h}, nil
}

// Close releases the sockets.
func (h *Host) Close() { h.h.Close() }

// LocalRoutes makes ranges of addresses local to this machine without putting an address on any interface (AnyIP), with src as
// the source of the host's own connections to them: without it a connection's source is the very address it goes to. Routes of
// ours for other ranges are removed. src may be invalid.
func (h *Host) LocalRoutes(ranges []netip.Prefix, src netip.Addr) error {
	lo, err := h.h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find interface lo: %w", err)
	}
	if err := h.h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set interface lo up: %w", err)
	}
	// The kernel refuses a source that is not an address of the machine.
	var from net.IP
	if src.IsValid() && h.hasAddr(src) {
		from = src.AsSlice()
	}
	have, err := h.h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: RouteProtocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list the routes to this machine: %w", err)
	}
	want := make(map[string]*net.IPNet, len(ranges))
	for _, r := range ranges {
		n := &net.IPNet{IP: r.Masked().Addr().AsSlice(), Mask: net.CIDRMask(r.Bits(), 32)}
		want[n.String()] = n
	}
	var stale []netlink.Route
	for _, r := range have {
		if r.Dst != nil && want[r.Dst.String()] != nil && r.Src.Equal(from) {
			delete(want, r.Dst.String())
			continue
		}
		stale = append(stale, r)
	}
	for name, n := range want {
		r := netlink.Route{LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
			Protocol: RouteProtocol, Dst: n, Src: from}
		if err := h.h.RouteReplace(&r); err != nil {
			return fmt.Errorf("route %s to this machine: %w", name, err)
		}
	}
	for _, r := range stale {
		if r.Dst != nil && want[r.Dst.String()] != nil {
			// It was replaced: to delete it by its range would delete the one that took its place.
			continue
		}
		if err := h.h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route %s: %w", r.Dst, err)
		}
	}
	return nil
}

// RemoveRoutes removes all routes of ours.
func (h *Host) RemoveRoutes() error { return h.LocalRoutes(nil, netip.Addr{}) }

func (h *Host) hasAddr(a netip.Addr) bool {
	addrs, err := h.h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	for _, have := range addrs {
		if ip, ok := netip.AddrFromSlice(have.IP); ok && ip.Unmap() == a {
			return true
		}
	}
	return false
}

// Sysctl sets a kernel parameter ("net/ipv4/ip_forward") of the calling thread's network namespace unless it has the value.
func Sysctl(name, value string) error {
	path := "/proc/sys/" + name
	have, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(have)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %s: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}

// bridgeNetfilter is the parameter by which bridged packets pass the hooks of IPv4.
const bridgeNetfilter = "net/bridge/bridge-nf-call-iptables"

// FilterBridged makes packets between the pods of one node pass the hooks of IPv4, loading the kernel's module for that if it
// can. Without it a pod that answers its neighbour answers past the kernel's connection tracking, and the neighbour, which asked
// a service's address, does not know the answer's.
func FilterBridged() error {
	if _, err := os.Stat("/proc/sys/" + bridgeNetfilter); err != nil {
		if path, err := exec.LookPath("modprobe"); err == nil {
			_ = exec.Command(path, "-q", "br_netfilter").Run()
		}
	}
	if err := Sysctl(bridgeNetfilter, "1"); err != nil {
		return fmt.Errorf("pods of one node cannot reach each other by service addresses: load the kernel module br_netfilter: %w", err)
	}
	return nil
}

// Flow is one UDP conversation as connection tracking has it: what the client sent to, and who answers.
type Flow struct{ To, Answers netip.AddrPort }

// ForgetUDP removes the tracked UDP conversations for which stale returns true, so that the next packet of each is balanced anew.
// It reads the whole table of tracked connections.
func (h *Host) ForgetUDP(stale func(Flow) bool) error {
	_, err := h.h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, udpFilter(stale))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget stale UDP conversations: %w", err)
	}
	return nil
}

type udpFilter func(Flow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f udpFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	return f(Flow{To: addrPort(flow.Forward.DstIP, flow.Forward.DstPort), Answers: addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)})
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}
