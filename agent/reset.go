package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"reconcile/node"
	"reconcile/node/runtime"
	"reconcile/proxy"
)

// Reset brings the machine back to what it was before the agent of this configuration ran: containers, mounts, networks, service rules
// and the DNS process are removed. The agent must not be running. What could not be removed is in the error; the rest is gone.
func Reset(ctx context.Context, cfg Config) error {
	var errs []error
	a := &Agent{cfg: cfg}
	names := child{name: "dns", lock: a.dnsLock(), log: cfg.Log}
	if err := names.stop(ctx); err != nil {
		errs = append(errs, fmt.Errorf("stop DNS: %w", err))
	}
	// The service rules of a machine that runs another data directory's containers are that one's.
	foreign := Free(cfg.DataDir) != nil
	if err := node.ResetMachine(ctx, a.nodeConfig("", "")); err != nil {
		errs = append(errs, fmt.Errorf("remove pods: %w", err))
	}
	if !foreign {
		if err := proxy.Remove(ctx, cfg.Log); err != nil {
			errs = append(errs, fmt.Errorf("remove service rules: %w", err))
		}
	}
	// RemoveTree refuses to go below a mount: what is still mounted there may be a user's data.
	for _, dir := range []string{cfg.RunDir, NodeDir(cfg.DataDir)} {
		if err := runtime.RemoveTree(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
