package agent

import (
	"context"
	"fmt"

	"reconcile/proxy"
	"reconcile/proxy/ipvs"
	"reconcile/proxy/nftables"
)

// openKernel chooses the kernel's load balancer: IPVS where there is one, else nftables; why says it for the log and the node's status.
func openKernel(_ context.Context, cfg Config) (k proxy.Kernel, why string, err error) {
	log := cfg.Log.With("part", "proxy")
	k, ipvsErr := ipvs.Open(ipvs.Config{Log: log})
	if ipvsErr == nil {
		return k, "the kernel has IPVS", nil
	}
	k, err = nftables.Open(nftables.Config{Log: log})
	if err != nil {
		return nil, "", fmt.Errorf("this kernel has neither IPVS (%w) nor nftables (%w); load one of their modules", ipvsErr, err)
	}
	return k, "the kernel has no IPVS: " + ipvsErr.Error(), nil
}
