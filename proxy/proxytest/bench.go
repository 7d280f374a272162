package proxytest

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"reconcile/internal/netnstest"
	"reconcile/proxy"
	"reconcile/proxy/model"
)

// benchBackends is the number of backends of each service.
const benchBackends = 10

// Bench measures a kernel with 1,000 and 10,000 services of 10 backends: the first full sync of an empty kernel, the change of one
// endpoint, and reading all back. CPU is that of the process; the kernel's own threads are not in it.
func Bench(b *testing.B, open func() (proxy.Kernel, error)) {
	for _, n := range []int{1000, 10000} {
		want := benchState(n)
		b.Run(fmt.Sprintf("full/%dservices", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				lab, m, k := benchKernel(b, open)
				d := model.Diff(nil, want)
				b.StartTimer()
				cpu := cpuTime()
				run(b, m, func() error { return k.Apply(b.Context(), d) })
				b.ReportMetric((cpuTime() - cpu).Seconds(), "cpu-s/op")
				b.StopTimer()
				_ = k.Close()
				lab.Close()
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("endpoint/%dservices", n), func(b *testing.B) {
			_, m, k := benchKernel(b, open)
			run(b, m, func() error { return k.Apply(b.Context(), model.Diff(nil, want)) })
			op := model.Op{Frontend: want.Frontends()[n/2], Backend: netip.MustParseAddrPort("10.244.250.250:8080")}
			start, i := cpuTime(), 0
			run(b, m, func() error {
				for b.Loop() {
					op.Verb = []model.Verb{model.AddBackend, model.RemoveBackend}[i%2]
					if err := k.Apply(b.Context(), model.Delta{op}); err != nil {
						return err
					}
					i++
				}
				return nil
			})
			b.ReportMetric((cpuTime()-start).Seconds()*1e3/float64(i), "cpu-ms/op")
		})
		b.Run(fmt.Sprintf("list/%dservices", n), func(b *testing.B) {
			_, m, k := benchKernel(b, open)
			run(b, m, func() error { return k.Apply(b.Context(), model.Diff(nil, want)) })
			for b.Loop() {
				run(b, m, func() error { _, err := k.List(b.Context()); return err })
			}
		})
	}
}

func benchKernel(b *testing.B, open func() (proxy.Kernel, error)) (*netnstest.Lab, *netnstest.Machine, proxy.Kernel) {
	b.Helper()
	lab := netnstest.New(b)
	m := lab.Machine("node").Attach(lab.Switch("lan"), "eth0", Node.String()+"/24")
	var k proxy.Kernel
	run(b, m, func() (err error) {
		if k, err = open(); err != nil {
			return err
		}
		return k.Setup(b.Context(), Facts())
	})
	return lab, m, k
}

func run(b *testing.B, m *netnstest.Machine, f func() error) {
	b.Helper()
	if err := m.Do(f); err != nil {
		b.Fatal(err)
	}
}

func benchState(n int) model.State {
	s := make(model.State, n)
	for i := range n {
		f := model.Frontend{Addr: netip.AddrFrom4([4]byte{10, 96, byte(1 + i>>8), byte(i)}), Proto: model.TCP, Port: 80}
		svc := model.Service{Frontend: f}
		for j := range benchBackends {
			svc.Backends = append(svc.Backends, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), byte(j)}), 8080))
		}
		s[f] = svc
	}
	return s
}

// cpuTime is the processor time that the process has used, in user and kernel mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
