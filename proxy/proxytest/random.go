package proxytest

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"reconcile/proxy/model"
)

// steps is how many random states a kernel is led through.
const steps = 60

// testRoundTrip leads a kernel through random states by differences and checks after each that it lists the state. The seed is
// logged, and fixed by the first argument of rand.NewPCG below when a failure is looked into.
func testRoundTrip(t *testing.T, b *bed) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range steps {
		s := RandomState(r)
		services := make([]model.Service, 0, len(s))
		for _, f := range s.Frontends() {
			services = append(services, s[f])
		}
		b.set(services...)
		b.listed()
	}
}

// RandomState makes a state of a few services out of few addresses, so that two random states have much in common.
func RandomState(r *rand.Rand) model.State {
	s := make(model.State)
	for range r.IntN(12) {
		f := model.Frontend{Addr: netip.AddrFrom4([4]byte{10, 96, 1, byte(1 + r.IntN(4))}), Proto: model.TCP, Port: uint16(80 + r.IntN(2))}
		if r.IntN(3) == 0 {
			f.Proto = model.UDP
		}
		a := model.Attributes{Masquerade: model.Masquerade(r.IntN(3)), Empty: model.Empty(r.IntN(2))}
		if r.IntN(4) == 0 {
			a.Affinity = time.Duration(1+r.IntN(3)) * time.Hour
		}
		var backends []model.Backend
		for range r.IntN(6) {
			backends = append(backends, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 1, byte(2 + r.IntN(5))}), 8080))
		}
		slices.SortFunc(backends, model.Backend.Compare)
		s[f] = model.Service{Frontend: f, Attributes: a, Backends: slices.Compact(backends)}
	}
	return s
}
