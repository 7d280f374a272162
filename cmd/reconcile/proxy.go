package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"reconcile/proxy"
)

// newProxy is the command about this machine's service proxy.
func newProxy() *cobra.Command {
	c := &cobra.Command{Use: "proxy COMMAND", Example: "  reconcile proxy show", Short: "Look at this machine's service proxy"}
	c.AddCommand(newProxyShow())
	return c
}

// newProxyShow reads the kernel itself: it works while the agent or the servers are away.
func newProxyShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Print what this machine's kernel does for services",
		Example: "  reconcile proxy show",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := proxy.Show(c.Context(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), text)
			return err
		},
	}
}
