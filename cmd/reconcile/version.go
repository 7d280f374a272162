package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

// version is the program's version. The build sets it: -ldflags '-X main.version=v1.2.3'.
var version = "dev"

// kubernetesVersion is the version of Kubernetes whose API and kubectl are built in.
const kubernetesVersion = "v1.36.3"

// newVersion is `reconcile version`.
func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the program's version",
		Example: "  reconcile version\n  reconcile version -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printVersion(w io.Writer, output string) error {
	switch output {
	case "json":
		return writeJSON(w, map[string]string{"version": version, "kubernetes": kubernetesVersion, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	case "text":
		_, err := fmt.Fprintf(w, "reconcile %s (Kubernetes API %s, %s, %s/%s)\n", version, kubernetesVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	}
	return fmt.Errorf("-o %q: want text or json", output)
}
