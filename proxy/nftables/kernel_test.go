package nftables_test

import (
	"io"
	"log/slog"
	"testing"

	"reconcile/proxy"
	"reconcile/proxy/nftables"
	"reconcile/proxy/proxytest"
)

func open() (proxy.Kernel, error) {
	return nftables.Open(nftables.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

func TestKernel(t *testing.T) {
	proxytest.Run(t, func(t *testing.T) proxytest.Env { return proxytest.NewLab(t, open) })
}

func BenchmarkKernel(b *testing.B) { proxytest.Bench(b, open) }
