package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/internal/loopback"
	"reconcile/object"
)

// fixed is a source that gives its objects and then nothing; with none it gives not even an empty set.
type fixed struct{ objects []object.Object }

func (f fixed) Follow(ctx context.Context, sel object.Selection, r object.Receiver) error {
	if f.objects != nil {
		var mine []object.Object
		for _, o := range f.objects {
			if object.KeyOf(o).Resource == sel.Resource {
				mine = append(mine, o)
			}
		}
		r.Replace(mine)
	}
	<-ctx.Done()
	return ctx.Err()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// run runs a server until the test ends and returns a function that ends it before.
func run(t testing.TB, cfg Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// ask asks until there is an answer, a minute at most, and then until ok likes it.
func ask(t testing.TB, network string, at netip.AddrPort, name string, kind uint16, ok func(*dns.Msg) bool) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last any
	for ctx.Err() == nil {
		q := new(dns.Msg).SetQuestion(name, kind)
		m, _, err := c.ExchangeContext(ctx, q, at.String())
		if err == nil && ok(m) {
			return m
		}
		last = fmt.Sprint(m, err)
	}
	t.Fatalf("ask %s: %v", name, last)
	return nil
}

func good(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0 }

func web(ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: ip}}
}

// TestServesAndRemembers: over UDP and TCP, names are answered; after a restart without any server they still are.
func TestServesAndRemembers(t *testing.T) {
	at, state := netip.MustParseAddrPort(loopback.Address()), filepath.Join(t.TempDir(), "dns.json")
	cfg := Config{Listen: []netip.AddrPort{at}, Source: fixed{[]object.Object{web("10.96.4.7")}}, StateFile: state, Log: quiet()}
	stop := run(t, cfg)
	for _, network := range []string{"udp", "tcp"} {
		m := ask(t, network, at, "web.default.svc.cluster.local.", dns.TypeA, good)
		if got := m.Answer[0].(*dns.A).A.String(); got != "10.96.4.7" {
			t.Errorf("%s answers %s", network, got)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for _, err := os.Stat(state); err != nil; _, err = os.Stat(state) {
		if time.Now().After(deadline) {
			t.Fatal("the state file does not come")
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()

	cfg.Source = fixed{}
	run(t, cfg)
	ask(t, "udp", at, "web.default.svc.cluster.local.", dns.TypeA, good)
}

// TestBrokenStateFile: it is said and passed over.
func TestBrokenStateFile(t *testing.T) {
	at, state := netip.MustParseAddrPort(loopback.Address()), filepath.Join(t.TempDir(), "dns.json")
	if err := os.WriteFile(state, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, Config{Listen: []netip.AddrPort{at}, Source: fixed{[]object.Object{web("10.96.4.7")}}, StateFile: state, Log: quiet()})
	ask(t, "udp", at, "web.default.svc.cluster.local.", dns.TypeA, good)
}

// samePort listens on one port of two addresses. The port is the system's choice on the first; on the second another may have it.
func samePort(t *testing.T, one, two string) (net.PacketConn, net.PacketConn) {
	t.Helper()
	for range 50 {
		a, err := net.ListenPacket("udp", one+":0")
		if err != nil {
			t.Fatal(err)
		}
		port := netip.MustParseAddrPort(a.LocalAddr().String()).Port()
		b, err := net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(two), port).String())
		if err == nil {
			return a, b
		}
		_ = a.Close()
	}
	t.Fatalf("no port of 50 is free on both %s and %s", one, two)
	return nil, nil
}

// TestForwards: other names go to the servers of resolv.conf, past one that is silent, and never to ourselves.
func TestForwards(t *testing.T) {
	silent, real := samePort(t, "127.0.0.53", "127.0.0.54")
	defer silent.Close()
	upstream := &dns.Server{PacketConn: real, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 300 IN A 192.0.2.1")
		m.Answer = []dns.RR{rr}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = upstream.ActivateAndServe() }()
	defer func() { _ = real.Close() }()

	u := newUpstreams("", []netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:53")})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	u.path = conf
	write(t, conf, "nameserver 10.96.0.10\n")
	q := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	if _, err := u.forward(t.Context(), q, false); !errors.Is(err, errNoUpstream) {
		t.Errorf("a resolv.conf that names us only: %v", err)
	}
	u = newUpstreams(conf, u.own)
	u.servers, u.looked = []string{silent.LocalAddr().String(), real.LocalAddr().String()}, time.Now().Add(time.Hour)
	m, err := u.forward(t.Context(), q, false)
	if err != nil || len(m.Answer) != 1 {
		t.Fatalf("past a silent server: %v, %v", m, err)
	}
	// Where all slots wait, a question fails at once instead of adding to them.
	for range maxForwards {
		u.slots <- struct{}{}
	}
	if _, err := u.forward(t.Context(), q, false); !errors.Is(err, errBusy) {
		t.Errorf("with all slots taken: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzAnswer: any message that unpacks gets an answer that packs, carries its id, and fits.
func FuzzAnswer(f *testing.F) {
	s := testServer()
	receiver{s.follower, resourceServices}.Replace([]object.Object{web("10.96.4.7")})
	receiver{s.follower, resourceSlices}.Replace(nil)
	for _, name := range []string{"web.default.svc.cluster.local.", ".", "7.4.96.10.in-addr.arpa.", "a..b.", "_http._tcp.web.default.svc.cluster.local.", "svc.cluster.local.", "example.org."} {
		q := new(dns.Msg)
		q.Question = []dns.Question{{Name: name, Qtype: dns.TypeANY, Qclass: dns.ClassINET}}
		q.SetEdns0(1232, true)
		if b, err := q.Pack(); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil {
			return
		}
		m := s.handler.answer(context.Background(), q, false)
		out, err := m.Pack()
		if err != nil {
			t.Fatalf("the answer to %v does not pack: %v", q, err)
		}
		if m.Id != q.Id || !m.Response {
			t.Fatalf("the answer to %v is %v", q, m)
		}
		if len(out) > ednsSize && len(q.Question) == 1 {
			t.Fatalf("the answer has %d bytes", len(out))
		}
	})
}

// BenchmarkAnswer is an answer without a socket, 10,000 services known.
func BenchmarkAnswer(b *testing.B) {
	s := testServer()
	receiver{s.follower, resourceServices}.Replace(manyServices(10000))
	receiver{s.follower, resourceSlices}.Replace(nil)
	q := new(dns.Msg).SetQuestion("s77.default.svc.cluster.local.", dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		if m := s.handler.answer(context.Background(), q, false); len(m.Answer) != 1 {
			b.Fatal(m)
		}
	}
}

// BenchmarkUDP is a whole question and answer over loopback, several clients at once; the clients' work is counted too.
func BenchmarkUDP(b *testing.B) {
	at := netip.MustParseAddrPort(loopback.Address())
	run(b, Config{Listen: []netip.AddrPort{at}, Source: fixed{manyServices(10000)}, Log: quiet()})
	ask(b, "udp", at, "s77.default.svc.cluster.local.", dns.TypeA, good)
	question, err := new(dns.Msg).SetQuestion("s77.default.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("udp", at.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 512)
		for pb.Next() {
			_, _ = c.Write(question)
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}

// BenchmarkChange is one service's change among 10,000.
func BenchmarkChange(b *testing.B) {
	s := testServer()
	services := receiver{s.follower, resourceServices}
	services.Replace(manyServices(10000))
	receiver{s.follower, resourceSlices}.Replace(nil)
	one := web("10.96.4.7")
	b.ReportAllocs()
	for b.Loop() {
		services.Upsert(one)
	}
}

func manyServices(n int) []object.Object {
	var out []object.Object
	for i := range n {
		out = append(out, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)},
			Spec: corev1.ServiceSpec{ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String()}})
	}
	return out
}
