package proxy

import (
	"fmt"
	"log/slog"

	"reconcile/proxy/ipvs"
	"reconcile/proxy/nftables"
)

// Probe opens the best load balancer that the kernel of the calling process's network namespace has: IPVS, else nftables. The
// second result says in one sentence what was chosen and why.
func Probe(log *slog.Logger) (Kernel, string, error) {
	k, err := ipvs.Open(ipvs.Config{Log: log})
	if err == nil {
		return k, "services are balanced by the kernel's IPVS", nil
	}
	why := err
	n, err := nftables.Open(nftables.Config{Log: log})
	if err != nil {
		return nil, "", fmt.Errorf("no load balancer in this kernel: %w; and %w", why, err)
	}
	return n, fmt.Sprintf("services are balanced by nftables, because IPVS is not there (%v)", why), nil
}
