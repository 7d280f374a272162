package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: $KUBECONFIG, DATA-DIR/admin.kubeconfig, ./run/admin.kubeconfig)")
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "data directory of `reconcile up` on this machine")
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
		return nil, err
	}
	cfg.UserAgent = "reconcile/" + version
	return client.New(cfg)
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
