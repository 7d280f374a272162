package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"reconcile/schema"
)

// newSchema is `reconcile schema`.
func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the CUE definitions of every kind",
		Long: "Prints closed CUE definitions (package k8s) for editors, cue vet and import from your own CUE. They need no network.\n" +
			"Kept in a folder of the repository, they are no manifests: definitions hold no objects.",
		Example: "  mkdir -p k8s && reconcile schema > k8s/schema.cue\n  cue vet -d '#Deployment' k8s/schema.cue web.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), schema.Definitions())
			return err
		},
	}
}
