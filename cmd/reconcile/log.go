package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
)

// newLog is `reconcile log`.
func newLog() *cobra.Command {
	var f remoteFlags
	var output string
	var limit int
	cmd := &cobra.Command{
		Use:     "log",
		Short:   "List the cluster's commits, newest first",
		Example: "  reconcile log\n  reconcile log -n 5 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			all, err := listCommits(cmd.Context(), c)
			if err != nil {
				return err
			}
			if limit > 0 && len(all) > limit {
				all = all[:limit]
			}
			switch output {
			case "json":
				return writeJSON(cmd.OutOrStdout(), all)
			case "text":
			default:
				return fmt.Errorf("-o %q: want text or json", output)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "COMMIT\tPHASE\tCURRENT\tCHANGES\tAGE\tAUTHOR\tSUBJECT")
			for _, x := range all {
				fmt.Fprintf(t, "%.12s\t%s\t%d/%d\t+%d ~%d -%d\t%s\t%s\t%s\n", x.Spec.Hash, x.Status.Phase, x.Status.Current, x.Status.Total,
					x.Spec.Created, x.Spec.Changed, x.Spec.Deleted, duration.HumanDuration(time.Since(x.Spec.Received.Time)), x.Spec.Author, x.Spec.Subject)
			}
			return t.Flush()
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().IntVarP(&limit, "max-count", "n", 0, "print at most so many commits")
	return cmd
}
