package main

import (
	"fmt"

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
	group := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			c.GroupID = id
		}
		root.AddCommand(commands...)
	}
	group("run", "Run a cluster:", newUp(), newServer(), newAgent(), newReset())
	group("deploy", "Deploy:", newRemote(), newValidate(), newPlan(), newDiff(), newApply(), newSchema())
	group("look", "Look:", newStatus(), newLog(), newExplain(), newRebalance(), newKubectl())
	group("machine", "This machine:", newImage(), newProxy(), newKey())
	// Started by other commands, and hidden.
	root.AddCommand(newDNS(), newCUEEval())
	root.AddCommand(newVersion(), newCompletion())
	tellUsage(root)
	return root
}

// tellUsage makes every complaint about arguments and flags say how the command is used, below the complaint.
func tellUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(usageError)
	if check := cmd.Args; check != nil && cmd.Runnable() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError(cmd, err)
			}
			return nil
		}
	}
	if !cmd.Runnable() && cmd.HasParent() {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usageError(cmd, fmt.Errorf("unknown command %q", args[0]))
		}
	}
	for _, sub := range cmd.Commands() {
		tellUsage(sub)
	}
}

func usageError(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%s: %w\nusage: %s\n`%s --help` says more", cmd.CommandPath(), err, cmd.UseLine(), cmd.CommandPath())
}

// oneArg wants exactly one argument, and calls it by its name if it is not there.
func oneArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return fmt.Errorf("%s is missing", name)
		case len(args) > 1:
			return fmt.Errorf("one %s is wanted, not %d", name, len(args))
		}
		return nil
	}
}
