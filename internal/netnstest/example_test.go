package netnstest_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reconcile/internal/netnstest"
)

// TestExample is two machines on a switch: one serves, the other calls, and a cut separates them.
func TestExample(t *testing.T) {
	lab := netnstest.New(t)
	lan := lab.Switch("lan")
	a := lab.Machine("a").Attach(lan, "eth0", "192.168.77.1/24")
	b := lab.Machine("b").Attach(lan, "eth0", "192.168.77.2/24")

	l, err := a.Listen("192.168.77.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serve(l, "hello")

	if got, err := call(b, 20*time.Second); err != nil || got != "hello" {
		t.Fatalf("b calls a: %q, %v", got, err)
	}
	lab.Cut(a, b)
	if _, err := call(b, time.Second); err == nil {
		t.Error("b heard a through a cut")
	}
	lab.Heal()
	if got, err := call(b, 20*time.Second); err != nil || got != "hello" {
		t.Errorf("after Heal b calls a: %q, %v", got, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := b.Command(ctx, "cat", "/proc/net/dev").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "eth0") {
		t.Errorf("a process of b sees %q, %v", out, err)
	}
}

// TestLeavesNothing checks that a lab's names are gone after its test, and the host's interfaces are as before.
func TestLeavesNothing(t *testing.T) {
	before := interfaces(t)
	var path string
	t.Run("lab", func(t *testing.T) {
		lab := netnstest.New(t)
		lan := lab.Switch("lan")
		path = lab.Machine("a").Attach(lan, "eth0", "192.168.77.1/24").Path
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	})
	if path == "" {
		t.Skip("the lab was skipped")
	}
	if left, _ := filepath.Glob(strings.TrimSuffix(path, "a") + "*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if after := interfaces(t); after != before {
		t.Errorf("interfaces before %s, after %s", before, after)
	}
}

func interfaces(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

func serve(l net.Listener, text string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

func call(m *netnstest.Machine, within time.Duration) (string, error) {
	c, err := m.Dial("tcp4", "192.168.77.1:80", within)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(within))
	b, err := io.ReadAll(c)
	return string(b), err
}
