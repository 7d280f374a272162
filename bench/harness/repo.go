package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Repo is a git work tree whose remote "cluster" is the process's repository.
type Repo struct{ Dir string }

// NewRepo makes a work tree in dir and adds the remote with `reconcile remote add`.
func (p *Process) NewRepo(dir string) (*Repo, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	r := &Repo{Dir: dir}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"config", "user.name", "bench"}, {"config", "user.email", "bench@example.com"}} {
		if _, err := r.Git(args...); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(p.Binary, "remote", "add", "--data-dir", p.DataDir, "cluster")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("reconcile remote add: %w: %s", err, out)
	}
	return r, nil
}

// Bare is the remote that AddBare adds.
const Bare = "bare"

// AddBare makes an empty bare repository in dir and adds it as the remote Bare: a push to it costs what git itself does.
func (r *Repo) AddBare(dir string) error {
	if _, err := r.Git("init", "-q", "--bare", dir); err != nil {
		return err
	}
	_, err := r.Git("remote", "add", Bare, dir)
	return err
}

// Git runs git in the work tree and returns what it printed.
func (r *Repo) Git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.Dir
	// It would override the authority that `reconcile remote add` tells git.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_SSL_CAINFO=") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return string(out), nil
}

// Commit writes files (path to content; empty content removes the file) and commits them.
func (r *Repo) Commit(message string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(r.Dir, name)
		if content == "" {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	if _, err := r.Git("add", "-A"); err != nil {
		return err
	}
	_, err := r.Git("commit", "-q", "-m", message)
	return err
}
