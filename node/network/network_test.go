package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"reconcile/internal/needs"
	"reconcile/node/network"
	"reconcile/node/runtime/runtimetest"
)

var cluster = netip.MustParsePrefix("10.244.0.0/16")

func TestDiff(t *testing.T) {
	var have network.State
	datadriven.RunTest(t, "testdata/diff", func(t *testing.T, d *datadriven.TestData) string {
		var subnet netip.Prefix
		if d.HasArg("subnet") {
			var s string
			d.ScanArgs(t, "subnet", &s)
			subnet = netip.MustParsePrefix(s)
		}
		var peers []network.Peer
		for _, l := range strings.Fields(d.Input) {
			p, via, _ := strings.Cut(l, "@")
			peers = append(peers, network.Peer{Subnet: netip.MustParsePrefix(p), Via: netip.MustParseAddr(via)})
		}
		want := network.Want(subnet, cluster, d.HasArg("masquerade"), netip.MustParseAddr("192.0.2.1"), peers)
		var b strings.Builder
		for _, op := range network.Diff(want, have) {
			fmt.Fprintln(&b, op)
		}
		have = want
		if b.Len() == 0 {
			return "nothing to do\n"
		}
		return b.String()
	})
}

// TestDiffReaches: applied to any state, the difference gives the wanted one, and then there is none.
func TestDiffReaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := network.NewFakeKernel()
		for range 3 {
			var peers []network.Peer
			for i := range rapid.IntRange(0, 5).Draw(t, "peers") {
				peers = append(peers, network.Peer{Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(10 + i), 0}), 24), Via: netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(2, 9).Draw(t, "via"))})})
			}
			subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(rapid.IntRange(1, 3).Draw(t, "subnet")), 0}), 24)
			want := network.Want(subnet, cluster, rapid.Bool().Draw(t, "masquerade"), netip.Addr{}, peers)
			have, _ := k.Have()
			for _, op := range network.Diff(want, have) {
				if err := k.Apply(op); err != nil {
					t.Fatal(err)
				}
			}
			if have, _ = k.Have(); len(network.Diff(want, have)) != 0 {
				t.Fatalf("%v is left to do", network.Diff(want, have))
			}
		}
	})
}

// TestNode is one suite for the fake and for the kernel.
func TestNode(t *testing.T) {
	t.Run("fake", func(t *testing.T) { suite(t, network.NewFakeKernel(), func(string) string { return "/fake" }) })
	t.Run("kernel", func(t *testing.T) {
		if os.Geteuid() != 0 {
			needs.Missing(t, "needs root: links and network namespaces are made")
		}
		// The test's thread moves to a namespace of its own and ends with the test.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		owner := t.TempDir()
		k, err := network.OpenLinux("cbrtest", owner)
		if err != nil {
			t.Fatal(err)
		}
		suite(t, k, func(uid string) string { return newNamespace(t, uid) })
		testOwner(t, owner)
		if out, err := exec.Command("ip", "-brief", "link").CombinedOutput(); err != nil || strings.Contains(string(out), "cbrtest") || strings.Contains(string(out), "rv0a") {
			t.Errorf("left: %s, %v", out, err)
		}
	})
}

// testOwner makes the bridge for a data directory, and asks for it with another one's name.
func testOwner(t *testing.T, owner string) {
	k, err := network.OpenLinux("cbrtest", owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Apply(network.Op{Verb: "bridge", Prefix: netip.MustParsePrefix("10.244.3.1/24")}); err != nil {
		t.Fatal(err)
	}
	if err := network.CheckOwner("cbrtest", owner); err != nil {
		t.Errorf("the owner itself is told: %v", err)
	}
	var owned *network.OwnedError
	if _, err := network.OpenLinux("cbrtest", "/another"); !errors.As(err, &owned) || owned.Owner != owner {
		t.Errorf("another data directory: %v, want that %s owns the bridge", err, owner)
	}
	if err := os.RemoveAll(owner); err != nil {
		t.Fatal(err)
	}
	if err := network.CheckOwner("cbrtest", "/another"); err != nil {
		t.Errorf("the owner's directory is gone, but: %v", err)
	}
	if err := k.Remove(); err != nil {
		t.Fatal(err)
	}
}

func suite(t *testing.T, k network.Kernel, namespace func(uid string) string) {
	ctx, dir := context.Background(), t.TempDir()
	cfg := network.Config{Root: dir, Bridge: "cbrtest", Cluster: cluster, Masquerade: true, Self: netip.MustParseAddr("192.0.2.1"), Log: runtimetest.Logger(t)}
	n, err := network.New(cfg, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Attach(ctx, "early", "/x"); err == nil || !strings.Contains(err.Error(), "podCIDR") {
		t.Errorf("Attach before a subnet is allotted: %v", err)
	}
	if err := n.SetNode(ctx, netip.MustParsePrefix("10.244.3.0/24"), nil); err != nil {
		t.Fatal(err)
	}
	a, err := n.Attach(ctx, "a", namespace("a"))
	if err != nil || a != netip.MustParseAddr("10.244.3.2") {
		t.Fatalf("first pod: %s, %v", a, err)
	}
	b, err := n.Attach(ctx, "b", namespace("b"))
	if err != nil || b == a {
		t.Fatalf("second pod: %s, %v", b, err)
	}
	if again, err := n.Attach(ctx, "a", namespace("a")); err != nil || again != a {
		t.Errorf("Attach again: %s, %v", again, err)
	}
	if n, err = network.New(cfg, k); err != nil { // a new agent
		t.Fatal(err)
	}
	if err := n.SetNode(ctx, netip.MustParsePrefix("10.244.3.0/24"), nil); err != nil {
		t.Fatal(err)
	}
	if n.Attached()["a"] != a || n.Attached()["b"] != b {
		t.Errorf("after a restart: %v", n.Attached())
	}
	if err := n.Detach(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	c, err := n.Attach(ctx, "c", namespace("c"))
	if err != nil || c == a || c == b {
		t.Errorf("a freed address is given away at once: %s, %v", c, err)
	}
	have, err := k.Have()
	if err != nil || have.Gateway != netip.MustParsePrefix("10.244.3.1/24") || have.Masquerade != netip.MustParsePrefix("10.244.3.0/24") || have.Cluster != cluster {
		t.Errorf("state %+v, %v", have, err)
	}
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
	if have, err := k.Have(); err != nil || have.Gateway.IsValid() || have.Masquerade.IsValid() {
		t.Errorf("after Close: %+v, %v", have, err)
	}
}

// newNamespace makes a network namespace that ends with the test, and returns a path to it.
func newNamespace(t *testing.T, uid string) string {
	t.Helper()
	path := t.TempDir() + "/" + uid
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

func TestAddressesRunOut(t *testing.T) {
	k := network.NewFakeKernel()
	n, err := network.New(network.Config{Root: t.TempDir(), Bridge: "b", Cluster: cluster, Log: runtimetest.Logger(t)}, k)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetNode(context.Background(), netip.MustParsePrefix("10.244.9.0/29"), nil); err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for i := range 5 {
		ip, err := n.Attach(context.Background(), fmt.Sprint(i), "/x")
		if err != nil || seen[ip] {
			t.Fatalf("pod %d: %s, %v", i, ip, err)
		}
		seen[ip] = true
	}
	if _, err := n.Attach(context.Background(), "more", "/x"); err == nil || !strings.Contains(err.Error(), "no address is free") {
		t.Errorf("the sixth of five: %v", err)
	}
}
