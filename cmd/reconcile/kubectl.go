package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	kubeversion "k8s.io/component-base/version"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"reconcile/client"
)

// probeLimit is how long the choice of a server may take before kubectl is left to find out by itself.
const probeLimit = 3 * time.Second

// newKubectl is `reconcile kubectl`: kubectl itself, built in. Its command tree is made only when it is called, because that takes
// longer than most commands of ours.
func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [ARGUMENTS OF KUBECTL]",
		Short: "Run kubectl against the cluster",
		Long: "Runs kubectl " + kubernetesVersion + ", which is built in. Without --kubeconfig and $KUBECONFIG it takes ./run/admin.kubeconfig or\n" +
			"./admin.kubeconfig. If the kubeconfig names several servers, one that answers is used.",
		Example:            "  reconcile kubectl get pods -A\n  reconcile kubectl logs -f deploy/web\n  reconcile kubectl --kubeconfig DIR/admin.kubeconfig get nodes -o wide",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			k := kubectl(cmd.Context(), args, genericiooptions.IOStreams{In: os.Stdin, Out: cmd.OutOrStdout(), ErrOut: cmd.ErrOrStderr()})
			if err := cli.RunNoErrOutput(k); err != nil {
				// kubectl prints its own errors in its own words, and chooses the exit code.
				cmdutil.CheckErr(err)
			}
			return nil
		},
	}
}

// kubectl makes kubectl's command tree for the cluster's kubeconfig.
func kubectl(ctx context.Context, args []string, streams genericiooptions.IOStreams) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true).WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	// The linker gives kubectl its version (Makefile). Where it did not, the placeholder must at least be a version.
	if strings.Contains(kubeversion.Get().GitVersion, "$Format") {
		//nolint:errcheck // it refuses only versions that do not parse
		kubeversion.SetDynamicVersion("v0.0.0-built.without.version")
	}
	remote := remoteFlags{kubeconfig: flagValue(args, "--kubeconfig")}
	if path, err := remote.path(); err == nil {
		if remote.kubeconfig == "" && os.Getenv(envKubeconfig) == "" {
			flags.KubeConfig = &path
		}
		if server, ok := answering(ctx, path); ok {
			flags.APIServer = &server
		}
	}
	k := kubectlcmd.NewKubectlCommand(kubectlcmd.KubectlOptions{
		Arguments: append([]string{"kubectl"}, args...), ConfigFlags: flags, IOStreams: streams,
	})
	k.SetArgs(args)
	return k
}

// knownToKubectl tells who types a command of kubectl's to us where it is. Cobra's error has no type: its text begins `unknown command "get" for`, and its
// guesses, which are commands of ours that look alike, are left out then.
func knownToKubectl(err error) error {
	var name, of string
	if _, scan := fmt.Sscanf(err.Error(), "unknown command %q for %q", &name, &of); scan != nil || of != "reconcile" {
		return err
	}
	k := kubectlcmd.NewKubectlCommand(kubectlcmd.KubectlOptions{IOStreams: genericiooptions.NewTestIOStreamsDiscard(), ConfigFlags: genericclioptions.NewConfigFlags(true)})
	if found, _, none := k.Find([]string{name}); none != nil || found == k {
		return err
	}
	return fmt.Errorf("unknown command %q: it is one of kubectl's, which is built in\nusage: reconcile kubectl %s …", name, name)
}

// flagValue finds the value of a flag among arguments that are not parsed yet: --name VALUE or --name=VALUE.
func flagValue(args []string, name string) string {
	for i, a := range args {
		switch {
		case a == "--":
			return ""
		case a == name && i+1 < len(args):
			return args[i+1]
		case len(a) > len(name) && a[:len(name)+1] == name+"=":
			return a[len(name)+1:]
		}
	}
	return ""
}

// answering chooses a server of a kubeconfig that names several; false if there is no choice, or none answers.
func answering(ctx context.Context, path string) (string, bool) {
	cfg, err := client.FromKubeconfig(path, slog.New(slog.DiscardHandler))
	if err != nil || len(cfg.Servers) < 2 {
		return "", false
	}
	c, err := client.New(cfg)
	if err != nil {
		return "", false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	server, err := c.Answering(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return "", false
	}
	return server, server != ""
}
