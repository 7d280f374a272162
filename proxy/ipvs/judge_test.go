package ipvs_test

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	moby "github.com/moby/ipvs"

	"reconcile/proxy/model"
	"reconcile/proxy/proxytest"
)

// TestOthersSeeTheSame lets ipvsadm and moby/ipvs say what our own messages programmed: one suite could share an error with
// the code that it tests.
func TestOthersSeeTheSame(t *testing.T) {
	lab := proxytest.NewLab(t, open)
	k := lab.Open(t)
	if err := k.Setup(t.Context(), proxytest.Facts()); err != nil {
		t.Fatal(err)
	}
	vip := netip.MustParseAddr("10.96.4.7")
	a, q := netip.AddrPortFrom(proxytest.PodA, 8080), netip.AddrPortFrom(proxytest.PeerPod, 8080)
	web := model.Service{Frontend: model.Frontend{Addr: vip, Proto: model.TCP, Port: 80}, Backends: []model.Backend{a, q}}
	web.Affinity = 3 * time.Hour
	dns := model.Service{Frontend: model.Frontend{Addr: vip, Proto: model.UDP, Port: 53}, Backends: []model.Backend{q}}
	want := model.State{web.Frontend: web, dns.Frontend: dns}
	if err := k.Apply(t.Context(), model.Diff(nil, want)); err != nil {
		t.Fatal(err)
	}
	leaving := model.Op{Verb: model.RemoveBackend, Frontend: web.Frontend, Backend: a}
	if err := k.Apply(t.Context(), model.Delta{leaving}); err != nil {
		t.Fatal(err)
	}
	ipvsadm(t, lab, `
TCP  10.96.4.7:80 rr persistent 10800
  -> 10.244.1.2:8080 Masq 0 0 0
  -> 10.244.2.2:8080 Masq 1 0 0
UDP  10.96.4.7:53 rr
  -> 10.244.2.2:8080 Masq 1 0 0`)

	// Nothing is open to the leaving backend, so it goes; the loop need not come back.
	if again, err := k.Drain(t.Context()); again != 0 || err != nil {
		t.Errorf("Drain: %s, %v", again, err)
	}
	ipvsadm(t, lab, `
TCP  10.96.4.7:80 rr persistent 10800
  -> 10.244.2.2:8080 Masq 1 0 0
UDP  10.96.4.7:53 rr
  -> 10.244.2.2:8080 Masq 1 0 0`)

	err := lab.Node.Do(func() error {
		h, err := moby.New("")
		if err != nil {
			return err
		}
		defer h.Close()
		all, err := h.GetServices()
		if err != nil {
			return err
		}
		for _, s := range all {
			dests, err := h.GetDestinations(s)
			if err != nil {
				return err
			}
			if s.Netmask != 0xffffffff || len(dests) != 1 || !dests[0].Address.Equal(q.Addr().AsSlice()) {
				t.Errorf("moby/ipvs reads %+v with %+v", s, dests)
			}
		}
		if len(all) != 2 {
			t.Errorf("moby/ipvs reads %d services", len(all))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// ipvsadm compares what ipvsadm lists on the node with want, in any order of services and with single spaces.
func ipvsadm(t *testing.T, lab *proxytest.Lab, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var text strings.Builder
	cmd := exec.CommandContext(ctx, "ipvsadm", "-Ln")
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := lab.Node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("ipvsadm: %v\n%s", err, text.String())
	}
	have := words(text.String())
	for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
		line = strings.Join(strings.Fields(line), " ")
		if have[line] == 0 {
			t.Errorf("ipvsadm lacks %q in\n%s", line, text.String())
		}
		have[line]--
	}
	for line, n := range have {
		if n > 0 && (strings.HasPrefix(line, "TCP") || strings.HasPrefix(line, "UDP") || strings.HasPrefix(line, "-> 10")) {
			t.Errorf("ipvsadm also has %q", line)
		}
	}
}

// words counts lines, with single spaces.
func words(text string) map[string]int {
	out := make(map[string]int)
	for _, line := range strings.Split(text, "\n") {
		out[strings.Join(strings.Fields(line), " ")]++
	}
	return out
}
