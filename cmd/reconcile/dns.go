package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"reconcile/agent"
)

// newDNS is the process that answers the cluster's names on a machine. The agent starts it and starts it again.
func newDNS() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:     "dns --config FILE",
		Short:   "Answer the cluster's names on this machine; started by the agent",
		Example: "  reconcile dns --config /run/reconcile-1a2b3c4d/dns.json",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return agent.RunDNS(ctx, config, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "what the agent tells")
	return cmd
}
