package host

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reconcile/internal/netnstest"
)

// TestLocalRoutes walks through what a starting agent does: the node's address is not known at first, then it is, then it changes.
func TestLocalRoutes(t *testing.T) {
	lab := netnstest.New(t)
	m := lab.Machine("n1").Attach(lab.Switch("lan"), "eth0", "192.168.79.1/24", "192.168.79.2/24")
	var h *Host
	if err := m.Do(func() (err error) { h, err = Open(); return err }); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	services, other := netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.97.0.0/16")
	for _, step := range []struct {
		name   string
		ranges []netip.Prefix
		src    string
		want   map[string]string
	}{
		{"no address known", []netip.Prefix{services}, "", map[string]string{"10.96.0.0/16": ""}},
		{"the address is known", []netip.Prefix{services}, "192.168.79.1", map[string]string{"10.96.0.0/16": "192.168.79.1"}},
		{"again", []netip.Prefix{services}, "192.168.79.1", map[string]string{"10.96.0.0/16": "192.168.79.1"}},
		{"another address", []netip.Prefix{services}, "192.168.79.2", map[string]string{"10.96.0.0/16": "192.168.79.2"}},
		{"an address that is not the machine's", []netip.Prefix{services}, "192.0.2.9", map[string]string{"10.96.0.0/16": ""}},
		{"two ranges", []netip.Prefix{services, other}, "192.168.79.1", map[string]string{"10.96.0.0/16": "192.168.79.1", "10.97.0.0/16": "192.168.79.1"}},
		{"one range less", []netip.Prefix{other}, "192.168.79.1", map[string]string{"10.97.0.0/16": "192.168.79.1"}},
		{"none", nil, "", map[string]string{}},
	} {
		var src netip.Addr
		if step.src != "" {
			src = netip.MustParseAddr(step.src)
		}
		if err := h.LocalRoutes(step.ranges, src); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		routes, err := h.h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: RouteProtocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, r := range routes {
			got[r.Dst.String()] = ""
			if r.Src != nil {
				got[r.Dst.String()] = r.Src.String()
			}
		}
		if len(got) != len(step.want) {
			t.Errorf("%s: the routes are %v, want %v", step.name, got, step.want)
		}
		for dst, src := range step.want {
			if have, ok := got[dst]; !ok || have != src {
				t.Errorf("%s: the routes are %v, want %v", step.name, got, step.want)
			}
		}
	}
}
