package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"reconcile/proxy/ipvs"
	"reconcile/proxy/model"
	"reconcile/proxy/nftables"
)

// Probe opens the load balancer that is to be used in the calling thread's network namespace: nftables if it balances here
// already, so that a module that was loaded meanwhile breaks no connection; else IPVS if the kernel has it; else nftables. The
// second result says in one sentence what was chosen and why, for the log and the node's status. The caller closes the kernel.
func Probe(log *slog.Logger) (Kernel, string, error) {
	n, nErr := nftables.Open(nftables.Config{Log: log})
	if nErr == nil {
		if programmed, err := n.Programmed(); err == nil && programmed {
			return n, "services are balanced by nftables, as before", nil
		}
	}
	k, err := ipvs.Open(ipvs.Config{Log: log})
	switch {
	case err == nil:
		if nErr == nil {
			_ = n.Close()
		}
		return k, "services are balanced by the kernel's IPVS", nil
	case nErr != nil:
		return nil, "", fmt.Errorf("this kernel has no load balancer for services: %w", errors.Join(err, nErr))
	}
	return n, fmt.Sprintf("services are balanced by nftables, because IPVS is not there: %v", err), nil
}

// Show returns what the kernel of the calling thread's network namespace does for services, as text, read from the kernel itself:
// it works without an agent and without a server.
func Show(ctx context.Context, log *slog.Logger) (string, error) {
	why, state, err := Read(ctx, log)
	if err != nil {
		return "", err
	}
	return Text(why, state), nil
}

// Text is what Read returns, for people.
func Text(why string, state model.State) string { return "# " + why + "\n" + model.Render(state) }

// Read is Show as data: which kernel balances the services and why that one, in words, and what it does. The caller owns the state.
func Read(ctx context.Context, log *slog.Logger) (why string, state model.State, err error) {
	k, why, err := Probe(log)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if state, err = k.List(ctx); err != nil {
		return "", nil, fmt.Errorf("list %s: %w", k.Name(), err)
	}
	return why, state, nil
}

// Remove takes everything of ours out of the calling thread's network namespace: services of either kernel, tables and routes. It
// is for `reconcile reset`; connections through services break.
func Remove(ctx context.Context, log *slog.Logger) error {
	var errs []error
	if n, err := nftables.Open(nftables.Config{Log: log}); err == nil {
		errs = append(errs, n.Remove(), n.Close())
	}
	// A kernel without IPVS has nothing to remove.
	if k, err := ipvs.Open(ipvs.Config{Log: log}); err == nil {
		errs = append(errs, k.Remove(ctx), k.Close())
	}
	return errors.Join(errs...)
}
