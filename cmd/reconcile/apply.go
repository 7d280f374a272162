package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"reconcile/gitops"
)

// newApply is `reconcile apply PATH|--plan FILE`.
func newApply() *cobra.Command {
	var flags folderFlags
	var file string
	cmd := &cobra.Command{
		Use:   "apply PATH|REV|--plan FILE",
		Short: "Make a folder or a revision the cluster's main, as a push of it would",
		Long: "Sends a folder to the cluster, which commits it on main (a commit of the server's making) through the same door as a push; a revision\n" +
			"of the git repository around you becomes main itself, as if it were pushed. With --plan exactly what the plan says is done, or nothing.",
		Example: "  reconcile apply .\n  reconcile plan . --out plan.json; reconcile apply --plan plan.json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (file != "") {
				return errors.New("apply wants a path, or --plan FILE")
			}
			if file != "" && (cmd.Flags().Changed("message") || cmd.Flags().Changed("option")) {
				return errors.New("a kept plan holds its message and options already: give -m and --option to `reconcile plan --out`")
			}
			var req gitops.PlanRequest
			var err error
			if file != "" {
				req, err = readPlan(file)
			} else {
				req, err = flags.request(cmd.Context(), args[0], cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			_, res, err := flags.ask(cmd.Context(), "apply", req)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := refusal(out, res); err != nil {
				return err
			}
			if res.Commit == "" {
				fmt.Fprintln(out, "Nothing to do.")
				return nil
			}
			fmt.Fprint(out, res.Text)
			fmt.Fprintf(out, "Committed %.7s.\n", res.Commit)
			return nil
		},
	}
	flags.bind(cmd)
	cmd.Flags().StringVar(&file, "plan", "", "a file that plan --out has written")
	return cmd
}
