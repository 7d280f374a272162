package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"reconcile/proxy"
	"reconcile/proxy/model"
)

// newProxy is the command about this machine's service proxy.
func newProxy() *cobra.Command {
	c := &cobra.Command{Use: "proxy COMMAND", Example: "  reconcile proxy show", Short: "Look at this machine's service proxy"}
	c.AddCommand(newProxyShow())
	return c
}

// newProxyShow reads the kernel itself: it works while the agent or the servers are away.
func newProxyShow() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "show",
		Short:   "Print what this machine's kernel does for services",
		Example: "  reconcile proxy show\n  reconcile proxy show -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s: want text or json", output)
			}
			why, state, err := proxy.Read(c.Context(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(c.OutOrStdout(), shownOf(why, state))
			}
			_, err = fmt.Fprint(c.OutOrStdout(), proxy.Text(why, state))
			return err
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

// shownProxy is `proxy show -o json`.
type shownProxy struct {
	// Kernel says which kernel balances the services, and why that one.
	Kernel   string         `json:"kernel"`
	Services []shownService `json:"services"`
}

// shownService is one frontend with those backends that take new connections.
type shownService struct {
	Frontend   string   `json:"frontend"`
	Masquerade string   `json:"masquerade"`
	Affinity   string   `json:"affinity,omitempty"`
	Empty      string   `json:"empty,omitempty"`
	Backends   []string `json:"backends"`
}

func shownOf(why string, state model.State) shownProxy {
	out := shownProxy{Kernel: why, Services: []shownService{}}
	for _, f := range state.Frontends() {
		s := state[f]
		one := shownService{Frontend: f.String(), Masquerade: s.Masquerade.String(), Backends: []string{}}
		if s.Affinity > 0 {
			one.Affinity = s.Affinity.String()
		}
		if len(s.Backends) == 0 {
			one.Empty = s.Empty.String()
		}
		for _, b := range s.Backends {
			one.Backends = append(one.Backends, b.String())
		}
		out.Services = append(out.Services, one)
	}
	return out
}
