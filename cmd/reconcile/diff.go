package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// newDiff is `reconcile diff PATH|REV`.
func newDiff() *cobra.Command {
	var flags folderFlags
	var output string
	cmd := &cobra.Command{
		Use:     "diff PATH|REV",
		Short:   "Show the fields that a folder or a git revision would change, in the manner of diff -u",
		Long:    "Asks the cluster as plan does, and prints fields only. Exit codes: 0 no difference, 2 differences, 1 error.",
		Example: "  reconcile diff .\n  reconcile diff HEAD~1",
		Args:    oneArg("PATH or REV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: want text or json", output)
			}
			req, err := flags.request(cmd.Context(), args[0], cmd.OutOrStdout())
			if err != nil {
				return err
			}
			_, res, err := flags.ask(cmd.Context(), "diff", req)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if output == "json" {
				if err := writeJSON(out, res); err != nil {
					return err
				}
				out = io.Discard
			}
			if err := refusal(out, res); err != nil {
				return err
			}
			fmt.Fprint(out, res.Diff)
			if res.Changes {
				return exitError{code: exitChanges}
			}
			return nil
		},
	}
	flags.bind(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
