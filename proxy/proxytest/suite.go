package proxytest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"reconcile/proxy"
	"reconcile/proxy/model"
)

// Addresses of services in the suite.
var (
	vip      = netip.MustParseAddr("10.96.4.7")
	otherVIP = netip.MustParseAddr("10.96.4.8")
	external = netip.MustParseAddr("203.0.113.5")
)

// tries is how many connections are made where chance decides. With two backends all of them meet the same one in 1 of
// 2^29 runs.
const tries = 30

// Run runs the suite: what must be true of every kernel. newEnv makes a network in which nothing is programmed.
func Run(t *testing.T, newEnv func(t *testing.T) Env) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bed)
	}{
		{"TCPFromEverywhere", testTCP},
		{"UDP", testUDP},
		{"SpreadsOverBackends", testSpread},
		{"Hairpin", testHairpin},
		{"NoBackends", testNoBackends},
		{"DaemonsDoNotAnswerOnServiceAddresses", testGuard},
		{"DNSAddressIsLocal", testDNS},
		{"NodePort", testNodePort},
		{"ExternalAddress", testExternal},
		{"HostNetworkBackend", testHostNetwork},
		{"Affinity", testAffinity},
		{"TCPOutlivesItsBackend", testGraceful},
		{"UDPLeavesItsBackend", testUDPMoves},
		{"UDPFindsItsFirstBackend", testUDPFirst},
		{"RestartChangesNothing", testRestart},
		{"RefusesWhatDoesNotFit", testRefuses},
		{"ListTellsWhatWasApplied", testRoundTrip},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := newEnv(t)
			b := &bed{t: t, env: env, kernel: env.Open(t), have: make(model.State)}
			b.setup(Facts())
			c.test(t, b)
		})
	}
}

// bed is a kernel under test with what was programmed.
type bed struct {
	t      *testing.T
	env    Env
	kernel proxy.Kernel
	have   model.State
}

func (b *bed) setup(f model.Facts) {
	b.t.Helper()
	if err := b.kernel.Setup(b.t.Context(), f); err != nil {
		b.t.Fatal(err)
	}
}

// set makes the services the whole state.
func (b *bed) set(services ...model.Service) {
	b.t.Helper()
	want := make(model.State)
	for _, s := range services {
		want[s.Frontend] = s
	}
	d := model.Diff(b.have, want)
	if err := b.kernel.Apply(b.t.Context(), d); err != nil {
		b.t.Fatalf("apply\n%s%v", d, err)
	}
	b.have = want
}

// listed checks that the kernel lists what was programmed.
func (b *bed) listed() {
	b.t.Helper()
	got, err := b.kernel.List(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if !got.Equal(b.have) {
		b.t.Fatalf("the kernel lists\n%swant\n%sdifference\n%s", model.Render(got), model.Render(b.have), model.Diff(got, b.have))
	}
}

// expect sends one question and checks who answers, and what client address that saw. An invalid source is not checked.
func (b *bed) expect(from netip.Addr, proto model.Protocol, to netip.AddrPort, want Reply) {
	b.t.Helper()
	got := send(b.env, from, proto, to)
	if !want.Source.IsValid() {
		got.Source = netip.Addr{}
	}
	if got != want {
		b.t.Errorf("%s asks %s/%s: got %+v, want %+v", from, to, proto, got, want)
	}
}

func tcp(addr netip.Addr, port uint16, backends ...netip.AddrPort) model.Service {
	return service(model.TCP, addr, port, backends)
}

func udp(addr netip.Addr, port uint16, backends ...netip.AddrPort) model.Service {
	return service(model.UDP, addr, port, backends)
}

func service(p model.Protocol, addr netip.Addr, port uint16, backends []netip.AddrPort) model.Service {
	slices.SortFunc(backends, netip.AddrPort.Compare)
	return model.Service{Frontend: model.Frontend{Addr: addr, Proto: p, Port: port}, Backends: backends}
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func answered(by netip.AddrPort, source netip.Addr) Reply {
	return Reply{Outcome: Answered, Backend: by, Source: source}
}

func testTCP(t *testing.T, b *bed) {
	a, q := at(PodA, PodPort), at(PeerPod, PodPort)
	b.set(tcp(vip, 80, a), tcp(otherVIP, 80, q))
	b.listed()
	b.expect(PodB, model.TCP, at(vip, 80), answered(a, PodB))
	b.expect(Node, model.TCP, at(vip, 80), answered(a, netip.Addr{}))
	b.expect(PodA, model.TCP, at(otherVIP, 80), answered(q, PodA))
	b.expect(Node, model.TCP, at(otherVIP, 80), answered(q, Node))
	b.expect(Outside, model.TCP, at(otherVIP, 80), answered(q, Node))
	b.expect(Outside, model.TCP, at(vip, 80), Reply{Outcome: Answered, Backend: a})
}

func testUDP(t *testing.T, b *bed) {
	q := at(PeerPod, PodPort)
	b.set(udp(vip, 53, q), tcp(vip, 53, at(PodB, PodPort)))
	b.listed()
	b.expect(PodA, model.UDP, at(vip, 53), answered(q, PodA))
	b.expect(Node, model.UDP, at(vip, 53), answered(q, Node))
	b.expect(PodA, model.TCP, at(vip, 53), answered(at(PodB, PodPort), PodA))
}

func testSpread(t *testing.T, b *bed) {
	want := []netip.AddrPort{at(PodA, PodPort), at(PodB, SecondPort), at(PeerPod, PodPort)}
	b.set(tcp(vip, 80, want...))
	for _, from := range []netip.Addr{PodA, Node} {
		if got := b.answers(from, at(vip, 80), tries+30); !slices.Equal(got, want) {
			t.Errorf("%s met %v, want %v", from, got, want)
		}
	}
}

// answers is who answered n connections, in order and each once; what does not answer fails the test.
func (b *bed) answers(from netip.Addr, to netip.AddrPort, n int) []netip.AddrPort {
	b.t.Helper()
	var got []netip.AddrPort
	for range n {
		r := send(b.env, from, model.TCP, to)
		if r.Outcome != Answered {
			b.t.Fatalf("%s asks %s: %s", from, to, r.Outcome)
		}
		got = append(got, r.Backend)
	}
	slices.SortFunc(got, netip.AddrPort.Compare)
	return slices.Compact(got)
}

func testHairpin(t *testing.T, b *bed) {
	a := at(PodA, PodPort)
	b.set(tcp(vip, 80, a), udp(vip, 80, a))
	for _, p := range []model.Protocol{model.TCP, model.UDP} {
		r := send(b.env, PodA, p, at(vip, 80))
		if r.Outcome != Answered || r.Backend != a || r.Source == PodA {
			t.Errorf("a pod asks itself through its service by %s: %+v, want an answer to the node", p, r)
		}
	}
}

func testNoBackends(t *testing.T, b *bed) {
	drop := tcp(external, 81)
	drop.Empty = model.Drop
	b.set(tcp(vip, 80), udp(vip, 80), tcp(external, 80), drop)
	b.listed()
	for _, from := range []netip.Addr{PodA, Node} {
		b.expect(from, model.TCP, at(vip, 80), Reply{Outcome: Refused})
		b.expect(from, model.UDP, at(vip, 80), Reply{Outcome: Refused})
	}
	b.expect(Outside, model.TCP, at(external, 80), Reply{Outcome: Refused})
	b.expect(Outside, model.TCP, at(external, 81), Reply{Outcome: Silent})
	// The first backend makes it work, and without the last it is as before.
	b.set(tcp(vip, 80, at(PodB, PodPort)))
	b.listed()
	b.expect(PodA, model.TCP, at(vip, 80), answered(at(PodB, PodPort), PodA))
	b.set(tcp(vip, 80))
	b.expect(PodA, model.TCP, at(vip, 80), Reply{Outcome: Refused})
}

func testGuard(t *testing.T, b *bed) {
	b.set(tcp(vip, 80, at(PodB, PodPort)))
	// A daemon of the node answers on the node's own address, and on no service address.
	b.expect(PodA, model.TCP, at(Node, DaemonPort), answered(at(Node, DaemonPort), netip.Addr{}))
	for _, from := range []netip.Addr{PodA, Node} {
		b.expect(from, model.TCP, at(vip, DaemonPort), Reply{Outcome: Refused})
		b.expect(from, model.TCP, at(otherVIP, DaemonPort), Reply{Outcome: Refused})
		b.expect(from, model.UDP, at(otherVIP, 9), Reply{Outcome: Refused})
		b.expect(from, model.TCP, at(vip, 80), answered(at(PodB, PodPort), netip.Addr{}))
	}
}

func testDNS(t *testing.T, b *bed) {
	if l, ok := b.env.(*Lab); ok {
		serve(t, l.Node, DNS.String(), 53)
	}
	for _, from := range []netip.Addr{PodA, Node} {
		for _, p := range []model.Protocol{model.TCP, model.UDP} {
			b.expect(from, p, at(DNS, 53), answered(at(DNS, 53), netip.Addr{}))
		}
		b.expect(from, model.TCP, at(DNS, DaemonPort), Reply{Outcome: Refused})
	}
}

func testNodePort(t *testing.T, b *bed) {
	always := tcp(Node, 30080, at(PeerPod, PodPort))
	always.Masquerade = model.MasqueradeAlways
	never := tcp(Node, 30081, at(PodA, PodPort))
	never.Masquerade = model.MasqueradeNever
	dropped := tcp(Node, 30082)
	dropped.Masquerade, dropped.Empty = model.MasqueradeNever, model.Drop
	empty := tcp(Node, 30083)
	empty.Masquerade = model.MasqueradeAlways
	b.set(always, never, dropped, empty)
	b.listed()
	b.expect(Outside, model.TCP, at(Node, 30080), answered(at(PeerPod, PodPort), Node))
	b.expect(PodA, model.TCP, at(Node, 30080), answered(at(PeerPod, PodPort), Node))
	b.expect(Node, model.TCP, at(Node, 30080), answered(at(PeerPod, PodPort), Node))
	b.expect(Outside, model.TCP, at(Node, 30081), answered(at(PodA, PodPort), Outside))
	b.expect(Outside, model.TCP, at(Node, 30082), Reply{Outcome: Silent})
	b.expect(Outside, model.TCP, at(Node, 30083), Reply{Outcome: Refused})
	b.expect(Outside, model.TCP, at(Node, DaemonPort), answered(at(Node, DaemonPort), Outside))
}

func testExternal(t *testing.T, b *bed) {
	s := tcp(external, 80, at(PeerPod, PodPort))
	s.Masquerade = model.MasqueradeAlways
	b.set(s)
	b.listed()
	b.expect(Outside, model.TCP, at(external, 80), answered(at(PeerPod, PodPort), Node))
	b.expect(PodA, model.TCP, at(external, 80), Reply{Outcome: Answered, Backend: at(PeerPod, PodPort)})
}

// testHostNetwork has a backend that is the node itself, as the API servers of default/kubernetes are, and one on the peer.
func testHostNetwork(t *testing.T, b *bed) {
	daemon, peer := at(Node, DaemonPort), at(Peer, DaemonPort)
	b.set(tcp(vip, 443, daemon), tcp(otherVIP, 443, peer))
	for _, from := range []netip.Addr{PodA, Node} {
		b.expect(from, model.TCP, at(vip, 443), answered(daemon, netip.Addr{}))
		b.expect(from, model.TCP, at(otherVIP, 443), answered(peer, netip.Addr{}))
	}
}

func testAffinity(t *testing.T, b *bed) {
	backends := []netip.AddrPort{at(PodA, PodPort), at(PodB, PodPort), at(PeerPod, PodPort)}
	s := tcp(vip, 80, backends...)
	s.Affinity = time.Hour
	b.set(s)
	b.listed()
	mine := b.answers(PodA, at(vip, 80), tries)
	if len(mine) != 1 {
		t.Fatalf("a client met %v, want one backend", mine)
	}
	// Its backend goes: it moves to another and stays there.
	s.Backends = slices.DeleteFunc(slices.Clone(backends), func(x netip.AddrPort) bool { return x == mine[0] })
	b.set(s)
	b.listed()
	moved := b.answers(PodA, at(vip, 80), tries)
	if len(moved) != 1 || moved[0] == mine[0] {
		t.Errorf("after %v was removed the client met %v, want one other backend", mine[0], moved)
	}
	// Without affinity it meets all again.
	s.Affinity = 0
	b.set(s)
	b.listed()
	if got := b.answers(PodA, at(vip, 80), tries); len(got) != 2 {
		t.Errorf("without affinity the client met %v, want two backends", got)
	}
}

func testGraceful(t *testing.T, b *bed) {
	b.set(tcp(vip, 80, at(PodB, PodPort), at(PeerPod, PodPort)))
	conns := map[netip.AddrPort]Conn{}
	for range tries {
		c, outcome := b.env.Dial(PodA, model.TCP, at(vip, 80))
		if outcome != Answered {
			t.Fatalf("connect: %s", outcome)
		}
		defer c.Close()
		conns[c.Ask().Backend] = c
	}
	old, ok := conns[at(PodB, PodPort)]
	if !ok {
		t.Fatalf("no connection to pod B among %d", tries)
	}
	b.set(tcp(vip, 80, at(PeerPod, PodPort)))
	b.listed()
	for range tries {
		b.expect(PodA, model.TCP, at(vip, 80), answered(at(PeerPod, PodPort), PodA))
	}
	drain(t, b.kernel)
	if r := old.Ask(); r.Outcome != Answered || r.Backend != at(PodB, PodPort) {
		t.Errorf("an old connection asks after its backend was removed: %+v", r)
	}
	// The backend comes back while it drains, and takes connections again.
	b.set(tcp(vip, 80, at(PodB, PodPort)))
	b.listed()
	b.expect(PodA, model.TCP, at(vip, 80), answered(at(PodB, PodPort), PodA))
	b.set()
	b.listed()
}

// drain calls Drain once and checks that it wants to be called again within reason.
func drain(t *testing.T, k proxy.Kernel) time.Duration {
	t.Helper()
	again, err := k.Drain(t.Context())
	if err != nil || again < 0 || again > time.Minute {
		t.Fatalf("Drain wants to be called again in %s, %v", again, err)
	}
	return again
}

func testUDPMoves(t *testing.T, b *bed) {
	b.set(udp(vip, 53, at(PodB, PodPort)))
	c, outcome := b.env.Dial(PodA, model.UDP, at(vip, 53))
	if outcome != Answered {
		t.Fatal(outcome)
	}
	defer c.Close()
	if r := c.Ask(); r.Backend != at(PodB, PodPort) {
		t.Fatalf("first answer %+v", r)
	}
	b.set(udp(vip, 53, at(PeerPod, PodPort)))
	b.until("the same socket meets the new backend", func() bool { return c.Ask().Backend == at(PeerPod, PodPort) })
}

func testUDPFirst(t *testing.T, b *bed) {
	b.set(udp(vip, 53))
	c, outcome := b.env.Dial(PodA, model.UDP, at(vip, 53))
	if outcome != Answered {
		t.Fatal(outcome)
	}
	defer c.Close()
	if r := c.Ask(); r.Outcome != Refused {
		t.Fatalf("without a backend: %+v", r)
	}
	b.set(udp(vip, 53, at(PodB, PodPort)))
	b.until("the same socket meets the first backend", func() bool { return c.Ask().Backend == at(PodB, PodPort) })
}

// until waits for a condition, ten seconds at most.
func (b *bed) until(what string, ok func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			b.t.Fatalf("never: %s", what)
		}
	}
}

func testRestart(t *testing.T, b *bed) {
	s := tcp(vip, 80, at(PodB, PodPort), at(PeerPod, PodPort))
	s.Affinity = 3 * time.Hour
	node := tcp(Node, 30080, at(PodA, PodPort))
	node.Masquerade = model.MasqueradeAlways
	b.set(s, node, tcp(otherVIP, 80, at(PodB, PodPort)), udp(otherVIP, 80))
	c, outcome := b.env.Dial(PodA, model.TCP, at(otherVIP, 80))
	if outcome != Answered {
		t.Fatal(outcome)
	}
	defer c.Close()

	if err := b.kernel.Close(); err != nil {
		t.Fatal(err)
	}
	b.kernel = b.env.Open(t)
	b.expect(PodA, model.TCP, at(otherVIP, 80), answered(at(PodB, PodPort), PodA))
	b.setup(Facts())
	b.listed()
	if r := c.Ask(); r.Outcome != Answered {
		t.Errorf("an old connection asks after a restart: %+v", r)
	}
	// What the new process changes, it changes on what is there.
	b.set(s, tcp(otherVIP, 80, at(PeerPod, PodPort)))
	b.listed()
	b.expect(PodA, model.TCP, at(otherVIP, 80), answered(at(PeerPod, PodPort), PodA))
}

func testRefuses(t *testing.T, b *bed) {
	b.set(tcp(vip, 80, at(PodB, PodPort)))
	f := tcp(vip, 80).Frontend
	other := tcp(otherVIP, 80).Frontend
	for _, op := range []model.Op{
		{Verb: model.AddService, Frontend: f},
		{Verb: model.UpdateService, Frontend: other},
		{Verb: model.RemoveService, Frontend: other},
		{Verb: model.AddBackend, Frontend: other, Backend: at(PodA, PodPort)},
		{Verb: model.AddBackend, Frontend: f, Backend: at(PodB, PodPort)},
		{Verb: model.RemoveBackend, Frontend: f, Backend: at(PodA, PodPort)},
	} {
		if err := b.kernel.Apply(t.Context(), model.Delta{op}); err == nil {
			t.Errorf("%s was done", op)
		}
		b.listed()
	}
	b.expect(PodA, model.TCP, at(vip, 80), answered(at(PodB, PodPort), PodA))
}
