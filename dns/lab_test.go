package dns

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"reconcile/object"
	"reconcile/proxy"
	"reconcile/proxy/nftables"
	"reconcile/proxy/proxytest"
)

// TestOnTheServiceAddress: the server binds the DNS service's address before the proxy has made it local, and then pods of the
// node and the node itself reach it there, over UDP and TCP.
func TestOnTheServiceAddress(t *testing.T) {
	lab := proxytest.NewLab(t, func() (proxy.Kernel, error) {
		return nftables.Open(nftables.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	})
	at := netip.AddrPortFrom(proxytest.DNS, 53)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- lab.Node.Do(func() error {
			return Run(ctx, Config{Listen: []netip.AddrPort{at}, Source: fixed{[]object.Object{web("10.96.4.7")}}, Log: quiet()})
		})
	}()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	}()
	if err := lab.Open(t).Setup(t.Context(), proxytest.Facts()); err != nil {
		t.Fatal(err)
	}
	for _, from := range []netip.Addr{proxytest.PodA, proxytest.Node} {
		for _, network := range []string{"udp4", "tcp4"} {
			answer := func() (*dns.Msg, error) {
				c, err := lab.Machine(from).Dial(network, at.String(), time.Second)
				if err != nil {
					return nil, err
				}
				conn := &dns.Conn{Conn: c}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				if err := conn.WriteMsg(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)); err != nil {
					return nil, err
				}
				return conn.ReadMsg()
			}
			var m *dns.Msg
			var err error
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
				if m, err = answer(); err == nil && good(m) {
					break
				}
			}
			if err != nil || !good(m) {
				t.Errorf("%s asks over %s: %v, %v", from, network, m, err)
			}
		}
	}
}
