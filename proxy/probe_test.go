package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"reconcile/proxy"
	"reconcile/proxy/model"
	"reconcile/proxy/proxytest"
)

// TestShowAndRemove: what is programmed is shown without an agent, and Remove leaves the machine as it was.
func TestShowAndRemove(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	lab := proxytest.NewLab(t, func() (proxy.Kernel, error) { k, _, err := proxy.Probe(log); return k, err })
	before := rules(t, lab)
	k := lab.Open(t)
	if err := k.Setup(t.Context(), proxytest.Facts()); err != nil {
		t.Fatal(err)
	}
	f := model.Frontend{Addr: netip.MustParseAddr("10.96.4.7"), Proto: model.TCP, Port: 80}
	want := model.State{f: {Frontend: f, Backends: []model.Backend{netip.MustParseAddrPort("10.244.1.2:8080")}}}
	if err := k.Apply(t.Context(), model.Diff(nil, want)); err != nil {
		t.Fatal(err)
	}
	var text string
	err := lab.Node.Do(func() (err error) { text, err = proxy.Show(t.Context(), log); return })
	if err != nil || !strings.Contains(text, "10.96.4.7:80/TCP masquerade=off-cluster\n  -> 10.244.1.2:8080\n") {
		t.Errorf("Show: %v\n%s", err, text)
	}
	if during := rules(t, lab); during == before {
		t.Error("nothing was programmed")
	}
	for range 2 {
		if err := lab.Node.Do(func() error { return proxy.Remove(context.Background(), log) }); err != nil {
			t.Fatal(err)
		}
		if after := rules(t, lab); after != before {
			t.Errorf("before\n%s\nafter Remove\n%s", before, after)
		}
	}
	err = lab.Node.Do(func() (err error) { text, err = proxy.Show(t.Context(), log); return })
	if err != nil || strings.Contains(text, "10.96") {
		t.Errorf("Show after Remove: %v\n%s", err, text)
	}
}

// rules is what nft and ip say of the node.
func rules(t *testing.T, lab *proxytest.Lab) string {
	t.Helper()
	var all strings.Builder
	for _, args := range [][]string{{"nft", "list", "tables"}, {"ip", "route", "show", "table", "local"}} {
		cmd := exec.Command(args[0], args[1:]...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := lab.Node.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out.String())
		}
		all.WriteString(out.String())
	}
	return all.String()
}
