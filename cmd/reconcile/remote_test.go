package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"reconcile/api/apitest"
	"reconcile/internal/needs"
)

// reconcile runs a command in this process and returns its output.
func reconcile(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func mustReconcile(t *testing.T, args ...string) string {
	t.Helper()
	out, err := reconcile(t, args...)
	if err != nil {
		t.Fatalf("reconcile %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestRemoteAdd(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		needs.Missing(t, "git is not installed")
	}
	s := apitest.Start(t, apitest.New(), nil)
	tree := t.TempDir()
	if out, err := reconcile(t, "remote", "add", "cluster", "--kubeconfig", s.Kubeconfig, "-C", tree); err == nil || !strings.Contains(err.Error(), "is no git work tree") {
		t.Errorf("outside a work tree: %v\n%s", err, out)
	}
	git(t, tree, "init", "-q")
	t.Setenv("GIT_SSL_CAINFO", "")
	t.Setenv("GIT_SSL_CERT", "")
	t.Setenv("GIT_SSL_KEY", "")
	for range 2 {
		out := mustReconcile(t, "remote", "add", "cluster", "--kubeconfig", s.Kubeconfig, "-C", tree)
		if !strings.Contains(out, "git push cluster main") {
			t.Errorf("output: %s", out)
		}
		if strings.Contains(out, "warning") {
			t.Errorf("a warning of nothing: %s", out)
		}
	}
	t.Setenv("GIT_SSL_CAINFO", "/etc/ssl/ca.pem")
	t.Setenv("GIT_SSL_CERT", "/etc/ssl/me.pem")
	if out := mustReconcile(t, "remote", "add", "cluster", "--kubeconfig", s.Kubeconfig, "-C", tree); !strings.Contains(out, "`unset GIT_SSL_CAINFO GIT_SSL_CERT`") {
		t.Errorf("variables that override the settings are not told: %s", out)
	}
	if got := git(t, tree, "remote", "get-url", "cluster"); got != s.URL+"/git/cluster.git" {
		t.Errorf("url = %s", got)
	}
	for option, file := range map[string]string{"sslCAInfo": "ca.crt", "sslCert": "client.crt", "sslKey": "client.key"} {
		got := git(t, tree, "config", "--get-urlmatch", "http."+option, s.URL+"/git/cluster.git")
		info, err := os.Stat(got)
		if err != nil || filepath.Base(got) != file || info.Mode().Perm() != 0o600 {
			t.Errorf("%s = %s: %v, %v", option, got, info, err)
		}
	}
	// git is to trust the cluster's authority alone, and to read no others.
	none := git(t, tree, "config", "--get-urlmatch", "http.sslCAPath", s.URL+"/git/cluster.git")
	if files, err := os.ReadDir(none); err != nil || len(files) != 0 {
		t.Errorf("sslCAPath = %s, want an empty folder: %v, %v", none, files, err)
	}
	git(t, tree, "remote", "add", "origin", "https://example.org/x.git")
	if _, err := reconcile(t, "remote", "add", "origin", "--kubeconfig", s.Kubeconfig, "-C", tree); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("over another remote: %v", err)
	}
}

func TestKubectlBuiltIn(t *testing.T) {
	s := apitest.Start(t, apitest.New(), nil)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", "")
	t.Chdir(s.Dir) // ./admin.kubeconfig is found there
	if out := mustReconcile(t, "kubectl", "get", "ns", "-o", "name"); !strings.Contains(out, "namespace/kube-system") {
		t.Errorf("get ns: %s", out)
	}
	if out := mustReconcile(t, "kubectl", "--kubeconfig", s.Kubeconfig, "create", "cm", "x", "--from-literal=a=b"); !strings.Contains(out, "configmap/x created") {
		t.Errorf("create: %s", out)
	}
	if out := mustReconcile(t, "kubectl", "version", "--kubeconfig="+s.Kubeconfig); !strings.Contains(out, "Server Version: v1.36.3") {
		t.Errorf("version: %s", out)
	}
}

func TestVersionAndCompletion(t *testing.T) {
	if out := mustReconcile(t, "version", "-o", "json"); !strings.Contains(out, `"kubernetes": "v1.36.3"`) {
		t.Errorf("version: %s", out)
	}
	if out := mustReconcile(t, "completion", "bash"); !strings.Contains(out, "__start_reconcile") {
		t.Errorf("completion: %.200s", out)
	}
	if _, err := reconcile(t, "completion", "tcsh"); err == nil {
		t.Error("completion of an unknown shell succeeded")
	}
}

// TestEveryCommandHasAnExample holds the help texts of all commands that do something.
func TestEveryCommandHasAnExample(t *testing.T) {
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		if c.Runnable() && c.Example == "" && !c.Hidden && c.Name() != "help" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}
