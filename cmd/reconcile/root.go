package main

import (
	"github.com/spf13/cobra"
)

// newRoot builds the command tree. Each subcommand is built by a function in a file of its own.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "reconcile",
		Short:         "git push to running services on your own machines",
		Long:          "reconcile turns a git repository of Kubernetes manifests into running services on bare metal.\nOne binary; git push is the way to deploy.",
		Example:       "  reconcile up --data-dir ./run\n  git push cluster main",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUp(), newServer(), newAgent(), newReset(), newDNS())
	root.AddCommand(newVersion(), newCompletion(), newKubectl(), newRemote(), newStatus(), newLog(), newExplain())
	root.AddCommand(newValidate(), newCUEEval(), newPlan(), newDiff(), newApply(), newImage(), newSchema())
	root.AddCommand(newProxy())
	return root
}
