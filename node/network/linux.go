package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes, so that others' are left alone.
const routeProtocol = 187

// Linux is the kernel of this machine, in the network namespace in which it was opened.
type Linux struct {
	bridge string
	owner  string
	ns     netns.NsHandle
	nl     *netlink.Handle
}

// OpenLinux works in the network namespace of the calling thread, also later when other threads call it, and turns on forwarding
// there. owner is the data directory that the bridge is made for; OpenLinux returns an OwnedError if it is another's.
func OpenLinux(bridge, owner string) (*Linux, error) {
	if err := CheckOwner(bridge, owner); err != nil {
		return nil, err
	}
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open the network: %w", err)
	}
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open the network: %w", err)
	}
	// /proc/sys/net is that of the calling thread's namespace.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return nil, fmt.Errorf("turn on forwarding: %w", err)
	}
	return &Linux{bridge: bridge, owner: owner, ns: ns, nl: nl}, nil
}

// Have implements Kernel.
func (l *Linux) Have() (State, error) {
	s := State{Routes: map[netip.Prefix]netip.Addr{}}
	if br, err := l.nl.LinkByName(l.bridge); err == nil && br.Attrs().Flags&net.FlagUp != 0 {
		addrs, err := l.nl.AddrList(br, netlink.FAMILY_V4)
		if err != nil {
			return s, fmt.Errorf("read the bridge's addresses: %w", err)
		}
		for _, a := range addrs {
			s.Gateway = prefixOf(a.IPNet)
		}
	}
	routes, err := l.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return s, fmt.Errorf("read the routes: %w", err)
	}
	for _, r := range routes {
		via, _ := netip.AddrFromSlice(r.Gw)
		if r.Dst != nil {
			s.Routes[prefixOf(r.Dst)] = via.Unmap()
		}
	}
	s.Masquerade, s.Cluster, err = l.masquerade()
	return s, err
}

func prefixOf(n *net.IPNet) netip.Prefix {
	ip, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Apply implements Kernel.
func (l *Linux) Apply(o Op) error {
	route := &netlink.Route{Dst: ipNet(o.Prefix), Gw: o.Via.AsSlice(), Protocol: routeProtocol}
	switch o.Verb {
	case "bridge":
		return l.makeBridge(o.Prefix)
	case "route":
		return l.nl.RouteReplace(route)
	case "unroute":
		if err := l.nl.RouteDel(route); !errors.Is(err, unix.ESRCH) {
			return err
		}
		return nil
	case "masquerade":
		return l.setMasquerade(o.Prefix, o.Cluster)
	case "unmasquerade":
		return l.dropMasquerade()
	}
	return fmt.Errorf("unknown operation %q", o.Verb)
}

func (l *Linux) makeBridge(gateway netip.Prefix) error {
	br, err := l.nl.LinkByName(l.bridge)
	if err != nil {
		la := netlink.NewLinkAttrs()
		la.Name = l.bridge
		if err := l.nl.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add bridge %s: %w", l.bridge, err)
		}
		if br, err = l.nl.LinkByName(l.bridge); err != nil {
			return fmt.Errorf("find bridge %s: %w", l.bridge, err)
		}
	}
	// The kernel takes 255 bytes; a longer path goes without.
	if br.Attrs().Alias != l.owner && len(l.owner) < 256 {
		if err := l.nl.LinkSetAlias(br, l.owner); err != nil {
			return fmt.Errorf("write the owner on bridge %s: %w", l.bridge, err)
		}
	}
	old, err := l.nl.AddrList(br, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range old {
		if prefixOf(a.IPNet) != gateway {
			if err := l.nl.AddrDel(br, &a); err != nil {
				return fmt.Errorf("remove address %s of the bridge: %w", a.IPNet, err)
			}
		}
	}
	if err := l.nl.AddrReplace(br, &netlink.Addr{IPNet: ipNet(gateway)}); err != nil {
		return fmt.Errorf("give the bridge address %s: %w", gateway, err)
	}
	return l.nl.LinkSetUp(br)
}

// Connect implements Kernel.
func (l *Linux) Connect(path, link string, ip netip.Addr, gateway netip.Prefix) error {
	pod, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open the pod's network namespace: %w", err)
	}
	defer pod.Close()
	in, err := netlink.NewHandleAt(pod, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open the pod's network namespace: %w", err)
	}
	defer in.Close()
	br, err := l.nl.LinkByName(l.bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", l.bridge, err)
	}
	eth, err := in.LinkByName("eth0")
	if err != nil {
		if eth, err = l.addVeth(pod, in, link, br); err != nil {
			return err
		}
	}
	if err := in.AddrReplace(eth, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, gateway.Bits()))}); err != nil {
		return fmt.Errorf("give the pod address %s: %w", ip, err)
	}
	if err := in.LinkSetUp(eth); err != nil {
		return fmt.Errorf("bring up the pod's link: %w", err)
	}
	if err := in.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("give the pod its default route: %w", err)
	}
	return nil
}

func (l *Linux) addVeth(pod netns.NsHandle, in *netlink.Handle, link string, br netlink.Link) (netlink.Link, error) {
	// One of that name may be left of a pod whose address this one got.
	if err := l.Disconnect(link); err != nil {
		return nil, err
	}
	la := netlink.NewLinkAttrs()
	la.Name, la.MTU, la.MasterIndex = link, br.Attrs().MTU, br.Attrs().Index
	v := &netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(pod)), PeerMTU: uint32(br.Attrs().MTU)}
	if err := l.nl.LinkAdd(v); err != nil {
		return nil, fmt.Errorf("add link %s: %w", link, err)
	}
	host, err := l.nl.LinkByName(link)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", link, err)
	}
	// A pod may reach itself through a service.
	if err := l.nl.LinkSetHairpin(host, true); err != nil {
		return nil, fmt.Errorf("set hairpin on %s: %w", link, err)
	}
	if err := l.nl.LinkSetUp(host); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", link, err)
	}
	return in.LinkByName("eth0")
}

// Disconnect implements Kernel.
func (l *Linux) Disconnect(link string) error {
	v, err := l.nl.LinkByName(link)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find link %s: %w", link, err)
	}
	if err := l.nl.LinkDel(v); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", link, err)
	}
	return nil
}

// Remove implements Kernel.
func (l *Linux) Remove() error {
	have, err := l.Have()
	if err != nil {
		return err
	}
	have.Gateway = netip.Prefix{}
	var errs []error
	for _, op := range Diff(State{}, have) {
		errs = append(errs, l.Apply(op))
	}
	return errors.Join(append(errs, l.Disconnect(l.bridge))...)
}

func (l *Linux) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "reconcile-" + l.bridge}
}

func (l *Linux) nft() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(l.ns)))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return c, nil
}

// masquerade reads what is masqueraded, which the rule carries as its user data.
func (l *Linux) masquerade() (from, except netip.Prefix, err error) {
	c, err := l.nft()
	if err != nil {
		return from, except, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return from, except, fmt.Errorf("read nftables: %w", err)
	}
	for _, t := range tables {
		if t.Name != l.table().Name {
			continue
		}
		rules, err := c.GetRules(t, &nftables.Chain{Name: "postrouting", Table: t})
		if err != nil {
			return from, except, fmt.Errorf("read nftables: %w", err)
		}
		for _, r := range rules {
			from, except = parseMark(string(r.UserData))
		}
	}
	return from, except, nil
}

func mark(from, except netip.Prefix) string { return from.String() + " " + except.String() }

func parseMark(s string) (from, except netip.Prefix) {
	var a, b string
	if _, err := fmt.Sscan(s, &a, &b); err != nil {
		return from, except
	}
	from, _ = netip.ParsePrefix(a)
	except, _ = netip.ParsePrefix(b)
	return from, except
}

// setMasquerade: ip saddr FROM ip daddr != CLUSTER oifname != BRIDGE masquerade.
func (l *Linux) setMasquerade(from, cluster netip.Prefix) error {
	c, err := l.nft()
	if err != nil {
		return err
	}
	t := c.AddTable(l.table())
	c.FlushTable(t)
	ch := c.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	match := func(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
		m := net.CIDRMask(p.Bits(), 32)
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: m, Xor: binaryutil.NativeEndian.PutUint32(0)},
			&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
		}
	}
	ifname := make([]byte, 16)
	copy(ifname, l.bridge)
	e := append(match(12, from, expr.CmpOpEq), match(16, cluster, expr.CmpOpNeq)...)
	e = append(e, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname}, &expr.Masq{})
	c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: e, UserData: []byte(mark(from, cluster))})
	return c.Flush()
}

func (l *Linux) dropMasquerade() error {
	c, err := l.nft()
	if err != nil {
		return err
	}
	c.AddTable(l.table()) // a table that is not there cannot be deleted
	c.DelTable(l.table())
	return c.Flush()
}
