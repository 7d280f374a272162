package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reconcile/pki"
)

// repository is the path of the cluster's repository under the API's URL.
const repository = "/git/cluster.git"

// newRemote is `reconcile remote`.
func newRemote() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remote COMMAND",
		Short:   "Connect a git work tree with the cluster",
		Example: "  reconcile remote add cluster && git push cluster main",
	}
	cmd.AddCommand(newRemoteAdd())
	return cmd
}

func newRemoteAdd() *cobra.Command {
	var f remoteFlags
	var tree string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add the cluster as a remote of this git work tree, so that plain `git push NAME main` works",
		Long: "Adds the remote, and tells git the cluster's authority and your certificate for that URL (http.URL.sslCAInfo, sslCAPath,\n" +
			"sslCert and sslKey). The files are copied to the work tree's .git/reconcile/NAME, readable by you alone. Called again it\n" +
			"refreshes them. GIT_SSL_CAINFO, GIT_SSL_CERT and GIT_SSL_KEY in the environment override these settings: unset them\n" +
			"before you push.",
		Example: "  reconcile remote add cluster\n  reconcile remote add --kubeconfig ~/admin.kubeconfig prod\n  git push cluster main",
		Args:    oneArg("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.gitRemote(args[0], tree)
			if err != nil {
				return err
			}
			if err := r.add(cmd.Context()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "remote %s is %s\ngit push %s main deploys; git push %s HEAD:refs/plan/main shows the plan and changes nothing\n%s",
				r.name, r.url(), r.name, r.name, overridden(os.Getenv))
			return err
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVarP(&tree, "directory", "C", ".", "the git work tree")
	return cmd
}

// overridden warns of variables of the environment that git heeds more than the settings that were just made.
func overridden(getenv func(string) string) string {
	var set []string
	for _, name := range []string{"GIT_SSL_CAINFO", "GIT_SSL_CERT", "GIT_SSL_KEY"} {
		if getenv(name) != "" {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return ""
	}
	return fmt.Sprintf("warning: %s in your environment overrides these settings for every remote, so that git would not trust the cluster or\n"+
		"not show it your certificate: run `unset %s` before git push\n", strings.Join(set, " and "), strings.Join(set, " "))
}

// gitRemote is a remote that is to be added.
type gitRemote struct {
	name, tree, server string
	ca, cert, key      []byte
}

// gitRemote reads server and certificate out of the kubeconfig.
func (f *remoteFlags) gitRemote(name, tree string) (gitRemote, error) {
	path, err := f.path()
	if err != nil {
		return gitRemote{}, err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return gitRemote{}, fmt.Errorf("read the kubeconfig %s: %w", path, err)
	}
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return gitRemote{}, fmt.Errorf("read the kubeconfig %s: %w", path, err)
	}
	if len(cfg.CAData) == 0 || len(cfg.CertData) == 0 || len(cfg.KeyData) == 0 {
		return gitRemote{}, fmt.Errorf("the kubeconfig %s has no certificate authority and client certificate: take the one that `reconcile up` wrote", path)
	}
	r := gitRemote{name: name, tree: tree, server: strings.TrimSuffix(cfg.Host, "/"), ca: cfg.CAData, cert: cfg.CertData, key: cfg.KeyData}
	// Beside the kubeconfig of `up` lies cluster.json, which knows the repository's URL.
	var info struct {
		GitURL string `json:"gitURL"`
	}
	if b, err := os.ReadFile(filepath.Join(filepath.Dir(path), clusterFileName)); err == nil && json.Unmarshal(b, &info) == nil && strings.HasSuffix(info.GitURL, repository) {
		r.server = strings.TrimSuffix(info.GitURL, repository)
	}
	return r, nil
}

func (r gitRemote) url() string { return r.server + repository }

// add sets the remote and its credentials. It runs git, and changes nothing but the work tree's own configuration.
func (r gitRemote) add(ctx context.Context) error {
	gitDir, err := r.git(ctx, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return fmt.Errorf("%s is no git work tree: run this in one, or name one with -C: %w", r.tree, err)
	}
	have, err := r.git(ctx, "config", "--get", "remote."+r.name+".url")
	switch {
	case err != nil:
		_, err = r.git(ctx, "remote", "add", r.name, r.url())
	case strings.HasSuffix(have, repository):
		_, err = r.git(ctx, "remote", "set-url", r.name, r.url())
	default:
		err = fmt.Errorf("remote %s is %s already: choose another name, or remove it with `git remote remove %s`", r.name, have, r.name)
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(gitDir, "reconcile", r.name)
	// No other authority than the cluster's is to be trusted with this URL. Without an empty folder here, git would also read each
	// of the machine's own authorities, on every push, which takes longer than the push.
	none := filepath.Join(dir, "no-other-authorities")
	if err := os.MkdirAll(none, 0o700); err != nil {
		return fmt.Errorf("keep the certificate: %w", err)
	}
	if _, err := r.git(ctx, "config", "http."+r.server+"/.sslCAPath", none); err != nil {
		return err
	}
	for _, f := range []struct {
		file, option string
		content      []byte
	}{{"ca.crt", "sslCAInfo", r.ca}, {"client.crt", "sslCert", r.cert}, {"client.key", "sslKey", r.key}} {
		path := filepath.Join(dir, f.file)
		if err := pki.WriteFile(path, f.content); err != nil {
			return err
		}
		if _, err := r.git(ctx, "config", "http."+r.server+"/."+f.option, path); err != nil {
			return err
		}
	}
	return nil
}

// git runs git in the work tree and returns what it prints.
func (r gitRemote) git(ctx context.Context, args ...string) (string, error) {
	out, err := runGit(ctx, r.tree, nil, args...)
	return strings.TrimSpace(string(out)), err
}
