package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"reconcile/client"
)

// envKubeconfig names the file, as for kubectl; defaultDataDir is where `make run` keeps its data.
const (
	envKubeconfig   = "KUBECONFIG"
	defaultDataDir  = "run"
	kubeconfigName  = "admin.kubeconfig"
	clusterFileName = "cluster.json"
)

// remoteFlags say which cluster a command speaks to.
type remoteFlags struct {
	kubeconfig string
	dataDir    string
}

func (f *remoteFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `FILE` of the cluster (default: $KUBECONFIG, else ./run/admin.kubeconfig)")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "data directory `DIR` of reconcile up, which holds admin.kubeconfig")
}

// path finds the kubeconfig: the flag, the data directory's, the environment's, ./run's, ./'s.
func (f *remoteFlags) path() (string, error) {
	if f.kubeconfig != "" {
		return f.kubeconfig, nil
	}
	if f.dataDir != "" {
		return filepath.Join(f.dataDir, kubeconfigName), nil
	}
	if p := os.Getenv(envKubeconfig); p != "" {
		return p, nil
	}
	for _, p := range []string{filepath.Join(defaultDataDir, kubeconfigName), kubeconfigName} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errors.New("no kubeconfig: set --kubeconfig, --data-dir or $KUBECONFIG, or run this beside the folder `run` of `reconcile up --data-dir ./run`")
}

// connect makes a client of the cluster.
func (f *remoteFlags) connect() (*client.Client, error) {
	p, err := f.path()
	if err != nil {
		return nil, err
	}
	cfg, err := client.FromKubeconfig(p, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("%w; `reconcile up` writes one as admin.kubeconfig into its data directory", err)
	}
	cfg.UserAgent = "reconcile/" + version
	return client.New(cfg)
}

// advise adds to the error of a command that asks a cluster what to do when no server, or not that cluster's server, answers.
func advise(cmd *cobra.Command, err error) error {
	if cmd == nil || cmd.Flags().Lookup("kubeconfig") == nil {
		return err
	}
	var dial *net.OpError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &authority):
		return fmt.Errorf("%w\nthe server is of another cluster than the kubeconfig: take the admin.kubeconfig that its `reconcile up` has written", err)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%w\nno server answers there: is `reconcile up` running? --kubeconfig or $KUBECONFIG chooses the cluster", err)
	}
	return err
}

// writeJSON prints a value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}
