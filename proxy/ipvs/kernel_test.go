package ipvs_test

import (
	"io"
	"log/slog"
	"testing"

	"reconcile/internal/vmtest"
	"reconcile/proxy"
	"reconcile/proxy/ipvs"
	"reconcile/proxy/proxytest"
)

// TestMain runs this package's tests in a machine whose kernel has IPVS.
func TestMain(m *testing.M) {
	vmtest.Main(m, vmtest.Config{
		Modules:  []string{"ip_vs", "ip_vs_rr", "veth", "bridge", "br_netfilter", "nf_tables", "nft_ct", "nft_chain_nat", "nft_masq", "nft_reject_ipv4", "nf_conntrack_netlink"},
		Programs: []string{"ipvsadm"},
	})
}

func open() (proxy.Kernel, error) {
	return ipvs.Open(ipvs.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

func TestKernel(t *testing.T) {
	proxytest.Run(t, func(t *testing.T) proxytest.Env { return proxytest.NewLab(t, open) })
}

func BenchmarkKernel(b *testing.B) { proxytest.Bench(b, open) }
