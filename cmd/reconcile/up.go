package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"reconcile/agent"
)

// newUp is `reconcile up`: a server and an agent in one process.
func newUp() *cobra.Command {
	m := machineFlags{server: true, agent: true}
	cmd := &cobra.Command{
		Use:   "up --data-dir DIR",
		Short: "Run a whole cluster on this machine, in the foreground",
		Long: "Runs a server and an agent on this machine until Ctrl-C. Containers, networks and service rules stay when it ends, and\n" +
			"the next `up` takes them over. The line that begins with `ready` is printed when a push would be served.",
		Example: "  reconcile up --data-dir ./run\n  reconcile up --data-dir /var/lib/reconcile --api-addr 10.0.0.1:6443",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return m.run(cmd.Context()) },
	}
	m.bind(cmd)
	return cmd
}

// newServer is `reconcile server`: the control plane alone.
func newServer() *cobra.Command {
	m := machineFlags{server: true}
	cmd := &cobra.Command{
		Use:     "server --data-dir DIR",
		Short:   "Run one member of the control plane, without an agent",
		Example: "  reconcile server --data-dir /var/lib/reconcile\n  reconcile server --data-dir /var/lib/reconcile --join 10.0.0.1:6443",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return m.run(cmd.Context()) },
	}
	m.bind(cmd)
	return cmd
}

// newAgent is `reconcile agent`: a machine without a control plane.
func newAgent() *cobra.Command {
	m := machineFlags{agent: true}
	cmd := &cobra.Command{
		Use:     "agent --data-dir DIR --servers URL[,URL...]",
		Short:   "Run this machine's containers, service rules and DNS for a cluster of other servers",
		Long:    "The folder DIR/pki must hold the cluster's ca.crt and ca.key, from which the node's certificate is made.",
		Example: "  reconcile agent --data-dir /var/lib/reconcile --servers https://10.0.0.1:6443,https://10.0.0.2:6443",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return m.run(cmd.Context()) },
	}
	m.bind(cmd)
	return cmd
}

// run is the straight line: take the data directory, open the server, write the administrator's files, start, wait for Ctrl-C.
func (m *machineFlags) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := m.config()
	if err != nil {
		return err
	}
	if err := checkUsable(cfg.dataDir); err != nil {
		return err
	}
	if err := m.needRoot(os.Geteuid()); err != nil {
		return err
	}
	if m.agent {
		if err := agent.Free(cfg.dataDir); err != nil {
			return err
		}
	}
	unlock, err := lockDataDir(cfg.dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	// Libraries of Kubernetes write to a log of their own otherwise, in another form.
	klog.SetSlogLogger(cfg.log)
	if m.server {
		return runServer(ctx, cfg, m.agent)
	}
	a, err := cfg.agent(cfg.servers)
	if err != nil {
		return err
	}
	fmt.Printf("ready: node %s follows %v\n", cfg.nodeName, cfg.servers)
	return unlessStopped(ctx, a.Run(ctx))
}
