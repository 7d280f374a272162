package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"reconcile/gitops"
	"reconcile/manifests"
)

// folderFlags are what plan, diff and apply have in common.
type folderFlags struct {
	remote  remoteFlags
	options []string
	message string
	colour  string
}

func (f *folderFlags) bind(cmd *cobra.Command) {
	f.remote.bind(cmd)
	cmd.Flags().StringArrayVar(&f.options, "option", nil, "an `OPTION` that git push -o takes, such as allow-delete=20")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "message of the commit that apply makes")
	cmd.Flags().StringVar(&f.colour, "color", "auto", "auto, always or never")
}

// request makes the request for a folder, a file or a git revision.
func (f *folderFlags) request(ctx context.Context, what string, out io.Writer) (gitops.PlanRequest, error) {
	req := gitops.PlanRequest{Options: f.options, Message: f.message}
	switch f.colour {
	case "always":
		req.Colour = true
	case "auto":
		req.Colour = isTerminal(out) && os.Getenv("NO_COLOR") == ""
	case "never":
	default:
		return req, fmt.Errorf("--color %s: want auto, always or never", f.colour)
	}
	if _, err := os.Stat(what); err != nil {
		req.Commit, err = commitOf(ctx, what)
		return req, err
	}
	files, err := manifests.Folder(what)
	if err != nil {
		return req, err
	}
	for p, content := range files {
		req.Files = append(req.Files, gitops.File{Path: p, Data: content})
	}
	slices.SortFunc(req.Files, func(a, b gitops.File) int { return strings.Compare(a.Path, b.Path) })
	return req, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// commitOf is the hash of the commit that a revision names in the git repository around us.
func commitOf(ctx context.Context, what string) (string, error) {
	if strings.HasPrefix(what, "-") {
		return "", fmt.Errorf("%s is neither a path nor a revision", what)
	}
	out, err := runGit(ctx, ".", nil, "rev-parse", "--verify", "--quiet", "--end-of-options", what+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%s is no path here, and git knows no such revision: %w", what, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// packOf is git's pack of a commit with its history, without what main has if main is known here.
func packOf(ctx context.Context, commit, main string) ([]byte, error) {
	wanted := commit + "\n"
	if main != "" {
		if _, err := runGit(ctx, ".", nil, "cat-file", "-e", main+"^{commit}"); err == nil {
			wanted += "^" + main + "\n"
		}
	}
	pack, err := runGit(ctx, ".", strings.NewReader(wanted), "pack-objects", "--revs", "--thin", "--stdout", "-q")
	if err != nil {
		return nil, fmt.Errorf("pack commit %.7s: %w", commit, err)
	}
	return pack, nil
}

// runGit runs git in a folder and returns what it prints.
func runGit(ctx context.Context, dir string, in io.Reader, args ...string) ([]byte, error) {
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &complaint
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, errors.New("git is not installed: install it first (apt install git)")
		}
		return nil, fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out.Bytes(), nil
}

// ask sends a request, and once more with the commit's objects if the cluster wants them. It returns the request that was answered.
func (f *folderFlags) ask(ctx context.Context, verb string, req gitops.PlanRequest) (gitops.PlanRequest, gitops.PlanResponse, error) {
	res, err := f.post(ctx, verb, req)
	if err != nil || !res.Wanted {
		return req, res, err
	}
	if req.Pack, err = packOf(ctx, req.Commit, res.Main); err != nil {
		return req, res, err
	}
	res, err = f.post(ctx, verb, req)
	return req, res, err
}

// post sends a request to the first server that answers.
func (f *folderFlags) post(ctx context.Context, verb string, req gitops.PlanRequest) (res gitops.PlanResponse, err error) {
	err = f.remote.ask(ctx, http.MethodPost, verb, req, &res)
	return res, err
}

// refusal prints findings, or what a refused plan would do, and says why a request was refused; nil if it was not.
func refusal(w io.Writer, res gitops.PlanResponse) error {
	for _, f := range res.Findings {
		fmt.Fprintln(w, f)
	}
	switch n := len(res.Findings); {
	case n == 1:
		return errors.New("1 mistake; nothing was changed")
	case n > 1:
		return fmt.Errorf("%d mistakes; nothing was changed", n)
	case res.Refused != "":
		fmt.Fprint(w, cmp.Or(res.Diff, res.Text))
		return errors.New(res.Refused)
	}
	return nil
}
