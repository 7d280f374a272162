package ipvs_test

import (
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"reconcile/proxy"
	"reconcile/proxy/model"
	"reconcile/proxy/proxytest"
)

// TestProbeShowRemove: this machine's kernel has IPVS, so that is chosen; what is programmed is shown without an agent, and Remove
// takes it all out, also when there is nothing.
func TestProbeShowRemove(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var why string
	lab := proxytest.NewLab(t, func() (proxy.Kernel, error) {
		k, reason, err := proxy.Probe(log)
		why = reason
		return k, err
	})
	k := lab.Open(t)
	if k.Name() != "ipvs" || !strings.Contains(why, "IPVS") {
		t.Fatalf("Probe chose %s: %s", k.Name(), why)
	}
	if err := k.Setup(t.Context(), proxytest.Facts()); err != nil {
		t.Fatal(err)
	}
	f := model.Frontend{Addr: netip.MustParseAddr("203.0.113.5"), Proto: model.TCP, Port: 80}
	want := model.State{f: {Frontend: f, Backends: []model.Backend{netip.MustParseAddrPort("10.244.1.2:8080")}}}
	if err := k.Apply(t.Context(), model.Diff(nil, want)); err != nil {
		t.Fatal(err)
	}
	show := func() string {
		t.Helper()
		var text string
		if err := lab.Node.Do(func() (err error) { text, err = proxy.Show(t.Context(), log); return }); err != nil {
			t.Fatal(err)
		}
		return text
	}
	if text := show(); !strings.Contains(text, "203.0.113.5:80/TCP masquerade=off-cluster\n  -> 10.244.1.2:8080\n") {
		t.Errorf("Show:\n%s", text)
	}
	for range 2 {
		if err := lab.Node.Do(func() error { return proxy.Remove(t.Context(), log) }); err != nil {
			t.Fatal(err)
		}
		if text := show(); strings.Contains(text, "203.0.113.5") {
			t.Errorf("Show after Remove:\n%s", text)
		}
	}
}
