package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"reconcile/agent"
)

// newReset is `reconcile reset`.
func newReset() *cobra.Command {
	m := machineFlags{server: true, agent: true}
	yes := false
	cmd := &cobra.Command{
		Use:   "reset --data-dir DIR --yes",
		Short: "Make this machine as it was: remove containers, networks, rules and data",
		Long: "Removes everything that `reconcile up`, `server` or `agent` with this data directory has made on this machine: containers,\n" +
			"their networks and mounts, service rules, the DNS process, and what the cluster keeps in the data directory. Other files there stay. There is no way back.",
		Example: "  reconcile reset --data-dir ./run --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return errors.New("reset removes all containers and all data of " + m.dataDir + "; say --yes if you mean it")
			}
			return m.reset(cmd)
		},
	}
	m.bind(cmd)
	// What up was started with may be repeated, and changes nothing here.
	for _, name := range []string{"advertise-addr", "api-addr", "cluster-domain", "encrypt", "join", "key-command", "key-file", "log-store", "node-name", "stream-port"} {
		if err := cmd.Flags().MarkHidden(name); err != nil {
			panic(err)
		}
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func (m *machineFlags) reset(cmd *cobra.Command) error {
	cfg, err := m.config()
	if err != nil {
		return err
	}
	// The run directory outlives a data directory that somebody has removed by hand, and so do bridge and rules.
	if !exists(cfg.dataDir) && !exists(agent.RunDir(cfg.dataDir)) {
		fmt.Fprintf(cmd.OutOrStdout(), "there is no %s: nothing to remove\n", cfg.dataDir)
		return nil
	}
	if exists(cfg.dataDir) && !exists(agent.RunDir(cfg.dataDir)) && !isDataDir(cfg.dataDir) {
		return fmt.Errorf("%s is no data directory of reconcile: nothing was removed%s", cfg.dataDir, nested(cfg.dataDir))
	}
	if err := m.needRoot(os.Geteuid()); err != nil {
		return err
	}
	unlock, err := lockDataDir(cfg.dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if exists(agent.NodeDir(cfg.dataDir)) || exists(agent.RunDir(cfg.dataDir)) {
		if err := agent.Reset(cmd.Context(), cfg.agentConfig(nil)); err != nil {
			return fmt.Errorf("reset %s: %w; the data is kept, run the command again", cfg.dataDir, err)
		}
	}
	left, err := removeDataDir(cfg.dataDir)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "removed everything of %s\n", cfg.dataDir)
	if len(left) > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "the folder stays, for it holds other things: %s\n", someOf(left))
	}
	return nil
}
